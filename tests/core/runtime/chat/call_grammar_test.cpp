// Calls held to schemas: whatever the masks let through is a call that fits, in every format that
// has a grammar, and only the call is held.
#include "core/runtime/chat/tool_parsers/call_grammar.h"

#include <gtest/gtest.h>

#include <random>

#include "core/runtime/chat/answer_parser.h"
#include "core/runtime/constraint/answer_constraint.h"
#include "tests/core/runtime/tokenizer/demo_vocab.h"

namespace mlxr::testing {
namespace {

using Json = nlohmann::ordered_json;

constexpr int32_t kStop = 0;
const ToolFormat kJson[] = {ToolFormat::kHermes,   ToolFormat::kLlamaJson,
                            ToolFormat::kMistral,  ToolFormat::kPhi,
                            ToolFormat::kGranite,  ToolFormat::kPhiFunctools,
                            ToolFormat::kCommandR, ToolFormat::kCommandRPlus};

const Json& tools() {
  static const Json made = Json::parse(R"([
    {"type": "function", "function": {"name": "say \"hi\"", "strict": true, "parameters": {
      "type": "object", "properties": {"days": {"type": "integer", "minimum": 1, "maximum": 7},
        "unit": {"$ref": "#/$defs/unit"}}, "required": ["days", "unit"],
      "additionalProperties": false, "$defs": {"unit": {"enum": ["C", "F"]}}}}},
    {"type": "function", "function": {"name": "time", "parameters": {"type": "object"}}}])");
  return made;
}

std::shared_ptr<const Constraint> compile(const std::string& grammar) {
  static ConstraintCompiler compiler(demo_tokenizer(), {kStop});
  return compiler.compile({ConstraintSpec::Kind::kLark, grammar});
}

bool fits(const Constraint& constraint, const std::string& text) {
  ConstraintMatcher matcher = constraint.matcher();
  const auto ids = demo_tokenizer()->encode(text, false, false);
  for (const int32_t id : ids) {
    if (matcher.is_stopped() || matcher.count_valid(std::array{id}) == 0) return false;
    matcher.accept(id);
  }
  return matcher.is_stopped();
}

std::optional<std::string> random_text(const Constraint& constraint, std::mt19937& random) {
  ConstraintMatcher matcher = constraint.matcher();
  std::vector<uint32_t> mask(mask_words(static_cast<size_t>(demo_tokenizer()->vocab_size())));
  std::string text;
  while (!matcher.is_stopped()) {
    if (text.size() > 1500) return std::nullopt;
    matcher.mask(mask);
    std::vector<int32_t> ids;
    for (int32_t id = 1; id < demo_tokenizer()->vocab_size(); ++id) {
      if (allows(mask, id)) ids.push_back(id);
    }
    if (ids.empty() || (allows(mask, kStop) && random() % 2 == 0)) return text;
    const int32_t id = ids[random() % ids.size()];
    matcher.accept(id);
    text += demo_tokenizer()->token_bytes(id);
  }
  return text;
}

// The calls that a client would get of the answer, each as {"name", "arguments"}.
Json calls_in(ToolFormat format, const std::string& answer) {
  AnswerSyntax syntax;
  syntax.tools = format;
  syntax.tool_list = tools();
  const auto parser = make_answer_parser(syntax);
  ChatEvents events;
  parser->push(answer, events);
  parser->finish(events);
  Json calls = Json::array();
  for (const ChatEvent& event : events) {
    if (event.kind == ChatEvent::Kind::kCall) {
      calls.push_back({{"name", event.text}, {"arguments", ""}});
    } else if (event.kind == ChatEvent::Kind::kArguments) {
      calls.back()["arguments"] = calls.back()["arguments"].get<std::string>() + event.text;
    }
  }
  for (Json& call : calls) call["arguments"] = Json::parse(call["arguments"].get<std::string>());
  return calls;
}

void expect_fitting_call(const Json& call, const std::string& answer) {
  const Json& arguments = call["arguments"];
  if (call["name"] == "time") {
    EXPECT_TRUE(arguments.is_object()) << answer;
    return;
  }
  ASSERT_EQ(call["name"], "say \"hi\"") << answer;
  ASSERT_EQ(arguments.size(), 2u) << answer;
  EXPECT_TRUE(arguments["days"].is_number_integer()) << answer;
  EXPECT_LE(arguments["days"].get<int>(), 7) << answer;
  EXPECT_TRUE(arguments["unit"] == "C" || arguments["unit"] == "F") << answer;
}

std::string calls_of(ToolFormat format) {
  return calls_grammar(format, tools(), call_marks(format)[0], nullptr);
}

TEST(CallGrammar, HoldsTheArgumentsOfStrictToolsAlone) {
  const auto calls = compile(calls_of(ToolFormat::kHermes));
  const auto fits_call = [&](const std::string& call) {
    return fits(*calls, call + "\n</tool_call>");
  };
  EXPECT_TRUE(fits_call(R"({"name": "say \"hi\"", "arguments": {"days": 3, "unit": "C"}})"));
  EXPECT_TRUE(fits_call("\n{\"name\":\"time\",\"arguments\":{\"any\": [1, null]}}"));
  EXPECT_FALSE(fits_call(R"({"name": "say \"hi\"", "arguments": {"days": 8, "unit": "C"}})"));
  EXPECT_FALSE(fits_call(R"({"name": "say \"hi\"", "arguments": {"days": 3, "unit": "K"}})"));
  EXPECT_FALSE(fits_call(R"({"name": "other", "arguments": {}})"));
  EXPECT_FALSE(fits_call(R"({"name": "time", "arguments": [1]})"));
  EXPECT_FALSE(fits_call(R"({"name": "time", "arguments": {}}{"name": "time", "arguments": {}})"))
      << "the parser would read both";
  const auto list = compile(calls_of(ToolFormat::kMistral));
  EXPECT_TRUE(
      fits(*list, R"([{"name": "time", "arguments": {}}, {"name": "time", "arguments": {}}])"));
  EXPECT_FALSE(fits(*list, R"([{"name": "time", "arguments": {}}, {"name": "times"}])"));
}

TEST(CallGrammar, RandomWalksOverAForcedCallWriteACallThatFits) {
  std::mt19937 random(5);
  for (const ToolFormat format : kJson) {
    for (const std::string name : {"", "say \"hi\"", "time"}) {
      const auto constraint = compile(forced_call_grammar(format, tools(), name, nullptr));
      int finished = 0;
      for (int i = 0; i < 20; ++i) {
        const auto rest = random_text(*constraint, random);
        if (!rest) continue;
        ++finished;
        // The name stands in the opening as JSON spells it.
        const std::string spelled =
            name.empty() ? "" : Json(name).dump().substr(1, Json(name).dump().size() - 2);
        const std::string answer = call_opening(format, spelled) + *rest;
        const Json calls = calls_in(format, answer);
        ASSERT_GE(calls.size(), 1u) << answer;
        for (const Json& call : calls) expect_fitting_call(call, answer);
      }
      EXPECT_GT(finished, 1) << static_cast<int>(format) << name;
    }
  }
}

TEST(CallGrammar, KnowsWhoAsksForIt) {
  EXPECT_TRUE(asks_for_strict_calls(tools()));
  EXPECT_FALSE(asks_for_strict_calls(Json::array({tools()[1]})));
  EXPECT_EQ(answer_grammar(ToolFormat::kHarmony, tools(), nullptr), "")
      << "its marks are no tokens";
  EXPECT_EQ(answer_grammar(ToolFormat::kNone, tools(), nullptr), "");
}

TEST(AnswerConstraint, EveryCallIsHeldAndTheTextRoundItIsFree) {
  constexpr int32_t kMark = 102;
  FreeParts free;
  free.call_marks = {{kMark, compile(calls_of(ToolFormat::kHermes))}};
  AnswerConstraint answer(nullptr, demo_tokenizer()->vocab_size(), free, std::array{5, 6});
  const auto write = [&](const std::string& text, bool held) {
    for (const int32_t id : demo_tokenizer()->encode(text, false, false)) {
      EXPECT_EQ(!answer.mask().empty(), held) << text;
      answer.accept(id);
    }
  };
  for (int i = 0; i < 2; ++i) {
    write("I will look.", false);
    answer.accept(kMark);
    write("{\"name\": \"time\", \"arguments\": {}}\n</tool_call>", true);
    write("\n", false);
  }
  EXPECT_FALSE(answer.complete());
  answer.accept(kMark);
  EXPECT_EQ(answer.count_allowed(demo_tokenizer()->encode("{no", false, false)), 1u);
}

}  // namespace
}  // namespace mlxr::testing
