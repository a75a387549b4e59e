// Calls of strict tools in every format, in a vocabulary that has the format's marks as control
// tokens and in one where they are text: what fits passes token by token, what does not is stopped
// inside the call, text round calls is free, and whatever the masks let through is read as calls
// that fit.
#include <gtest/gtest.h>

#include <random>

#include "core/base/error.h"
#include "core/runtime/chat/answer_parser.h"
#include "core/runtime/chat/tool_parsers/call_grammar.h"
#include "core/runtime/constraint/answer_constraint.h"
#include "tests/core/runtime/tokenizer/demo_vocab.h"

namespace mlxr::testing {
namespace {

using Json = nlohmann::ordered_json;
using Format = ToolFormat;

constexpr int32_t kStop = 0;

Json tool(const std::string& name, bool strict, const std::string& parameters) {
  return {
      {"type", "function"},
      {"function", {{"name", name}, {"strict", strict}, {"parameters", Json::parse(parameters)}}}};
}

const Json& tools() {
  static const Json made = Json::array({tool("book", true, R"({"type": "object",
         "properties": {"days": {"type": "integer", "minimum": 1, "maximum": 7},
           "unit": {"$ref": "#/$defs/unit"}, "note": {"type": "string", "maxLength": 6},
           "tags": {"type": "array", "items": {"enum": ["a b", "c"]}, "maxItems": 2},
           "at": {"type": "object", "properties": {"lat": {"type": "number",
             "minimum": -90, "maximum": 90},
             "exact": {"type": ["boolean", "null"]}}, "required": ["lat"],
             "additionalProperties": false}},
         "required": ["days", "unit", "at"], "additionalProperties": false,
         "$defs": {"unit": {"enum": ["C", "F"]}}})"),
                                        tool("book_all", false, R"({"type": "object"})")});
  return made;
}

// A tokenizer, and what it knows of marks.
struct Vocabulary {
  std::shared_ptr<const Tokenizer> tokenizer;
  std::unique_ptr<ConstraintCompiler> compiler;

  explicit Vocabulary(const std::vector<std::string>& marks) {
    nlohmann::json json = read_json("models/mlxr-demo/tokenizer.json");
    auto& added = json["added_tokens"];
    for (size_t i = added.size(); i-- > 0;) {
      const std::string content = added[i]["content"];
      if (content.find("tool_call") != std::string::npos) added[i]["content"] = "<odd" + content;
    }
    for (const std::string& mark : marks) {
      nlohmann::json token = added.back();
      token["id"] = added.back()["id"].get<int>() + 1;
      token["content"] = mark;
      token["special"] = true;
      added.push_back(token);
    }
    tokenizer = Tokenizer::from_json(json.dump());
    compiler = std::make_unique<ConstraintCompiler>(tokenizer, std::vector<int32_t>{kStop});
  }

  ControlTokens tokens() const {
    return [this](std::string_view text) -> std::optional<int32_t> {
      const auto id = tokenizer->token_id(text);
      return id && tokenizer->is_special(*id) ? id : std::nullopt;
    };
  }
  std::shared_ptr<const Constraint> compile(const std::string& grammar) const {
    EXPECT_NE(grammar, "");
    return compiler->compile({ConstraintSpec::Kind::kLark, grammar});
  }
};

const Vocabulary& with_marks() {
  static const Vocabulary made({"<tool_call>",
                                "</tool_call>",
                                "<|tool_call|>",
                                "<|/tool_call|>",
                                "<|python_tag|>",
                                "<|python_start|>",
                                "[TOOL_CALLS]",
                                "[ARGS]",
                                "[CALL_ID]",
                                "<｜tool▁calls▁begin｜>",
                                "<｜tool▁call▁begin｜>",
                                "<｜tool▁sep｜>",
                                "<｜tool▁call▁end｜>",
                                "<｜tool▁calls▁end｜>",
                                "<start_function_call>",
                                "<end_function_call>",
                                "<escape>",
                                "<|tool_call>",
                                "<tool_call|>",
                                "<|\"|>",
                                "<|START_ACTION|>",
                                "<|END_ACTION|>",
                                "<|start|>",
                                "<|channel|>",
                                "<|message|>",
                                "<|end|>",
                                "<|call|>",
                                "<|return|>",
                                "<|constrain|>",
                                "<arg_key>",
                                "</arg_key>",
                                "<arg_value>",
                                "</arg_value>"});
  return made;
}

const Vocabulary& without_marks() {
  static const Vocabulary made({});
  return made;
}

// As the daemon holds answers (daemon/server/constraints.cpp).
AnswerConstraint held(const Vocabulary& words, Format format, const Json& tools) {
  FreeParts free;
  for (const std::string_view mark : call_marks(format)) {
    const auto token = words.tokenizer->token_id(mark);
    if (!token) continue;
    free.call_marks.push_back(
        {*token, words.compile(calls_grammar(format, tools, mark, words.tokens()))});
  }
  std::shared_ptr<const Constraint> whole;
  if (free.call_marks.empty() || begins_without_mark(format)) {
    whole = words.compile(answer_grammar(format, tools, words.tokens()));
  }
  return {whole.get(), words.tokenizer->vocab_size(), free, std::array{5, 6}};
}

bool may_follow(AnswerConstraint& answer, int32_t id) {
  const auto mask = answer.mask();
  return mask.empty() || allows(mask, id);
}

// How much of the text passes; npos for all, with the answer's end.
size_t passes(const Vocabulary& words, AnswerConstraint answer, const std::string& text) {
  std::string written;
  for (const int32_t id : words.tokenizer->encode(text, false, true)) {
    if (answer.complete() || !may_follow(answer, id)) return written.size();
    answer.accept(id);
    written += words.tokenizer->token_bytes(id);
  }
  return answer.complete() || may_follow(answer, kStop) ? std::string::npos : written.size();
}

// The calls that a client would get of the answer, each as {"name", "arguments"}, and its text.
struct Read {
  Json calls = Json::array();
  std::string text;
};
Read read(Format format, const Json& tools, const std::string& answer) {
  AnswerSyntax syntax;
  syntax.tools = format;
  syntax.tool_list = tools;
  const auto parser = make_answer_parser(syntax);
  ChatEvents events;
  parser->push(answer, events);
  parser->finish(events);
  Read found;
  for (const ChatEvent& event : events) {
    if (event.kind == ChatEvent::Kind::kCall) {
      found.calls.push_back({{"name", event.text}, {"arguments", ""}});
    } else if (event.kind == ChatEvent::Kind::kArguments) {
      Json& arguments = found.calls.back()["arguments"];
      arguments = arguments.get<std::string>() + event.text;
    } else if (event.kind == ChatEvent::Kind::kText) {
      found.text += event.text;
    }
  }
  for (Json& call : found.calls) {
    call["arguments"] = Json::parse(call["arguments"].get<std::string>());
  }
  return found;
}

void expect_fitting(const Json& call, const std::string& answer) {
  const Json& arguments = call["arguments"];
  ASSERT_TRUE(arguments.is_object()) << answer;
  if (call["name"] == "book_all") return;
  ASSERT_EQ(call["name"], "book") << answer;
  ASSERT_TRUE(arguments.contains("days") && arguments.contains("unit") && arguments.contains("at"))
      << answer;
  EXPECT_TRUE(arguments["days"].is_number_integer()) << answer;
  EXPECT_TRUE(arguments["days"] >= 1 && arguments["days"] <= 7) << answer;
  EXPECT_TRUE(arguments["unit"] == "C" || arguments["unit"] == "F") << answer;
  EXPECT_TRUE(arguments["at"].contains("lat") && arguments["at"]["lat"].is_number()) << answer;
  for (const auto& [key, value] : arguments["at"].items()) {
    EXPECT_TRUE(key == "lat" || (key == "exact" && (value.is_boolean() || value.is_null())))
        << answer;
  }
  for (const auto& [key, value] : arguments.items()) {
    EXPECT_TRUE(key == "days" || key == "unit" || key == "at" ||
                (key == "note" && value.is_string()) ||
                (key == "tags" && value.is_array() && value.size() <= 2))
        << answer;
  }
}

// How each format spells calls: of "book" with the arguments, of "book_all", of both.
struct Spelling {
  Format format;
  std::string begin;      // before the arguments of "book"
  std::string arguments;  // {"days": 3, "unit": "C", "at": {"lat": 1.5, "exact": null}}
  std::string end;
  std::string more;  // `begin` of a second call, where `end` is not simply followed by another
  std::string text_before = "I will look: ";
  bool text_marks = true;  // works where no mark is a token
};

const std::string kJsonArguments = R"({"days": 3, "unit": "C", "at": {"lat": 1.5, "exact": null}})";
const std::string kPython = R"(days=3, unit="C", at={"lat": 1.5, "exact": None})";

std::vector<Spelling> spellings() {
  const std::string named = R"({"name": "book", "arguments": )";
  const std::string qwen =
      "<parameter=days>\n3\n</parameter>\n<parameter=unit>\nC\n</parameter>\n<parameter=at>\n"
      "{\"lat\": 1.5, \"exact\": null}\n</parameter>\n";
  const auto glm = [](const std::string& key, const std::string& value) {
    return "<arg_key>" + key + "</arg_key>\n<arg_value>" + value + "</arg_value>\n";
  };
  const auto gemma = [](const std::string& quote) {
    return "{days:3,unit:" + quote + "C" + quote + ",at:{lat:1.5,exact:null}}";
  };
  const std::string deep = "<｜tool▁call▁begin｜>", sep = "<｜tool▁sep｜>";
  return {
      {Format::kHermes, "<tool_call>\n" + named, kJsonArguments, "}\n</tool_call>", ""},
      {Format::kPhi, "<|tool_call|>[" + named, kJsonArguments, "}]<|/tool_call|>", ""},
      {Format::kGranite, "<|tool_call|>[" + named, kJsonArguments, "}]", "}, " + named},
      {Format::kPhiFunctools, "functools[" + named, kJsonArguments, "}]", "}, " + named},
      {Format::kMistral, "[TOOL_CALLS] [" + named, kJsonArguments, "}]", "}, " + named},
      {Format::kMistral, "[TOOL_CALLS]book[ARGS]", kJsonArguments, "", ""},
      {Format::kMistral, "[TOOL_CALLS]book[CALL_ID]abc123DEF[ARGS]", kJsonArguments, "", ""},
      {Format::kLlamaJson, R"({"name": "book", "parameters": )", kJsonArguments, "}",
       R"(}; {"name": "book", "parameters": )", ""},
      {Format::kLlamaJson, R"(<|python_tag|>{"type": "function", "name": "book", "parameters": )",
       kJsonArguments, "}", "", ""},
      {Format::kLlamaJson, R"([{"name": "book", "parameters": )", kJsonArguments, "}]",
       R"(}, {"name": "book", "parameters": )", ""},
      {Format::kLlamaPythonic, "[book(", kPython, ")]", "), book(", ""},
      {Format::kLlamaPythonic, "<|python_start|>[book(", kPython, ")]", "), book(", ""},
      {Format::kGemmaCode, "```tool_code\nbook(", kPython, ")\n```", ")\nbook("},
      {Format::kGemmaFunction, "<start_function_call>call:book", gemma("<escape>"),
       "<end_function_call>", ""},
      {Format::kGemmaCall, "<|tool_call>call:book", gemma("<|\"|>"), "<tool_call|>", ""},
      {Format::kDeepSeek, "<｜tool▁calls▁begin｜>" + deep + "function" + sep + "book\n```json\n",
       kJsonArguments, "\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
       "\n```<｜tool▁call▁end｜>\n" + deep + "function" + sep + "book\n```json\n"},
      {Format::kDeepSeek, deep + "book" + sep, kJsonArguments, "<｜tool▁call▁end｜>", ""},
      {Format::kCommandR,
       "<|START_ACTION|>[\n    {\"tool_call_id\": \"0\", \"tool_name\": \"book\", "
       "\"parameters\": ",
       kJsonArguments, "}\n]<|END_ACTION|>", "},\n    {\"tool_name\": \"book\", \"parameters\": "},
      {Format::kHarmony, "<|channel|>commentary to=functions.book <|constrain|>json<|message|>",
       kJsonArguments, "<|call|>",
       "<|end|><|start|>assistant to=functions.book<|channel|>commentary "
       "json<|message|>",
       "<|channel|>analysis<|message|>Let me see.<|end|><|start|>assistant", false},
      {Format::kQwenXml, "<tool_call>\n<function=book>\n", qwen, "</function>\n</tool_call>", ""},
      {Format::kGlm, "<tool_call>book\n",
       glm("days", "3") + glm("unit", "C") + glm("at", R"({"lat": 1.5, "exact": null})"),
       "</tool_call>", ""},
  };
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << text;
  return at == std::string::npos ? text : text.replace(at, from.size(), to);
}

template <typename Check>
void for_each_spelling(const Check& check) {
  for (const Spelling& spelling : spellings()) {
    for (const Vocabulary* words : {&with_marks(), &without_marks()}) {
      if (words == &without_marks() && !spelling.text_marks) continue;
      SCOPED_TRACE(spelling.begin + (words == &with_marks() ? ", tokens" : ", text"));
      check(*words, spelling, held(*words, spelling.format, tools()));
    }
  }
}

TEST(HeldCalls, PassWhereTheyFitAndAreReadAsTheyWereWritten) {
  for_each_spelling([](const Vocabulary& words, const Spelling& s, const AnswerConstraint& answer) {
    const std::string call = s.begin + s.arguments + s.end;
    const std::string more = s.more.empty() ? s.end + (s.format == Format::kLlamaJson ? "" : "\n") +
                                                  (s.format == Format::kLlamaJson ? "; " : "") +
                                                  replaced(s.begin, s.begin, s.begin)
                                            : s.more;
    const bool bare_twice = s.format == Format::kLlamaJson && s.more.empty();
    std::vector<std::pair<std::string, size_t>> texts{{call, 1}};
    if (!s.text_before.empty()) texts.emplace_back(s.text_before + call, 1);
    if (!bare_twice) texts.emplace_back(s.begin + s.arguments + more + s.arguments + s.end, 2);
    for (const auto& [text, count] : texts) {
      EXPECT_EQ(passes(words, answer, text), std::string::npos) << text;
      const Read found = read(s.format, tools(), text);
      ASSERT_EQ(found.calls.size(), count) << text;
      for (const Json& one : found.calls) {
        EXPECT_EQ(one["arguments"], Json::parse(kJsonArguments)) << text;
      }
    }
  });
}

TEST(HeldCalls, AreStoppedWhereAnArgumentDoesNotFit) {
  for_each_spelling([](const Vocabulary& words, const Spelling& s, const AnswerConstraint& answer) {
    std::vector<std::string> wrong;
    const bool quoted = s.arguments.find("\"C\"") != std::string::npos;
    wrong.push_back(replaced(s.arguments, "3", "8"));
    wrong.push_back(replaced(s.arguments, "3", "\"3\""));
    wrong.push_back(quoted ? replaced(s.arguments, "\"C\"", "\"K\"")
                           : replaced(s.arguments, "C", "K"));
    wrong.push_back(replaced(s.arguments, "1.5", "true"));
    wrong.push_back(replaced(s.arguments, "lat", "lot"));  // one missing, one too many
    wrong.push_back(replaced(s.arguments, "unit", "odd"));
    wrong.push_back("");  // the required ones
    for (const std::string& arguments : wrong) {
      const std::string text = s.begin + arguments + s.end;
      const size_t passed = passes(words, answer, text);
      EXPECT_NE(passed, std::string::npos) << text;
      if (passed != std::string::npos) {
        EXPECT_GE(passed + 2, s.begin.size()) << text;
      }
    }
    EXPECT_NE(passes(words, answer, replaced(s.begin, "book", "hook") + s.arguments + s.end),
              s.text_before.empty() && s.format != Format::kHarmony ? 0 : std::string::npos);
  });
}

TEST(HeldCalls, TextThatIsNoCallIsFree) {
  for_each_spelling([](const Vocabulary& words, const Spelling& s, const AnswerConstraint& answer) {
    for (const std::string& text :
         {std::string("Ünïcode, 12 <b> of \"it\" {and: [more]}.\n\n```python\nf(x)\n```"),
          std::string("\n\nYes"), std::string("(a) b")}) {
      EXPECT_EQ(passes(words, answer, text), std::string::npos) << text;
      EXPECT_EQ(read(s.format, tools(), text).calls.size(), 0u) << text;
    }
  });
  for (const Vocabulary* words : {&with_marks(), &without_marks()}) {
    const AnswerConstraint json = held(*words, Format::kLlamaJson, tools());
    for (const char* text : {"{}", "{\"answer\": 42}", "[1, 2]", "[{\"a\": 1}]", "[link](there)",
                             "{ \"named\": 1}", "{x}", "[]", "[ {}]"}) {
      EXPECT_EQ(passes(*words, json, text), std::string::npos) << text;
      EXPECT_EQ(read(Format::kLlamaJson, tools(), text).calls.size(), 0u) << text;
    }
    const AnswerConstraint python = held(*words, Format::kLlamaPythonic, tools());
    for (const char* text : {"[1, 2]", "[book](there)", "[booking(1)]", "[]", "{\"a\": 1}"}) {
      EXPECT_EQ(passes(*words, python, text), std::string::npos) << text;
      EXPECT_EQ(read(Format::kLlamaPythonic, tools(), text).calls.size(), 0u) << text;
    }
  }
}

TEST(HeldCalls, ToolsThatAreNotStrictTakeAnyObject) {
  for_each_spelling([](const Vocabulary& words, const Spelling& s, const AnswerConstraint& answer) {
    const std::string begin = replaced(s.begin, "book", "book_all");
    EXPECT_EQ(passes(words, answer, begin + s.arguments + s.end), std::string::npos) << begin;
    const std::string other = replaced(s.arguments, "unit", "other");
    const std::string text = begin + other + s.end;
    EXPECT_EQ(passes(words, answer, text), std::string::npos) << text;
    EXPECT_EQ(read(s.format, tools(), text).calls[0]["arguments"]["other"], "C");
  });
}

// What a random walk writes from `answer` on, up to where it may end; nothing where it grew too
// long.
std::optional<std::string> walk(const Vocabulary& words, AnswerConstraint& answer,
                                std::mt19937& random) {
  std::string text;
  while (!answer.complete()) {
    if (text.size() > 700) return std::nullopt;
    const auto mask = answer.mask();
    if (mask.empty()) return text;  // free again
    if (allows(mask, kStop)) return text;
    std::vector<int32_t> ids;
    for (int32_t id = 1; id < words.tokenizer->vocab_size(); ++id) {
      if (allows(mask, id)) ids.push_back(id);
    }
    EXPECT_FALSE(ids.empty()) << text;
    if (ids.empty()) return std::nullopt;
    // A short token is likelier to end what it stands in.
    int32_t id = ids[random() % ids.size()];
    for (int i = 0; i < 3; ++i) {
      const int32_t other = ids[random() % ids.size()];
      if (words.tokenizer->token_bytes(other).size() < words.tokenizer->token_bytes(id).size()) {
        id = other;
      }
    }
    answer.accept(id);
    text += words.tokenizer->token_bytes(id);
  }
  return text;
}

TEST(HeldCalls, RandomWalksWriteCallsThatFit) {
  std::mt19937 random(11);
  for_each_spelling([&](const Vocabulary& words, const Spelling& s, const AnswerConstraint& start) {
    int finished = 0;
    for (int i = 0; i < 12; ++i) {
      AnswerConstraint answer = start;
      for (const int32_t id : words.tokenizer->encode(s.begin, false, true)) {
        ASSERT_TRUE(may_follow(answer, id)) << s.begin;
        answer.accept(id);
      }
      const auto rest = walk(words, answer, random);
      if (!rest) continue;
      ++finished;
      const Read found = read(s.format, tools(), s.begin + *rest);
      ASSERT_GE(found.calls.size(), 1u) << s.begin << *rest;
      for (const Json& call : found.calls) expect_fitting(call, s.begin + *rest);
    }
    EXPECT_GT(finished, 2);
  });
}

// One strict tool with one argument "a".
Json tool_with(const std::string& schema, const std::string& others = "") {
  return Json::array(
      {tool("f", true,
            R"({"type": "object", "properties": {"a": )" + schema +
                R"(}, "required": ["a"], "additionalProperties": false)" + others + "}")});
}

struct Valued {
  std::string schema;
  std::vector<std::pair<std::string, std::string>> fit;  // as the format writes it, as JSON
  std::vector<std::string> wrong;
};

void expect_values(Format format, const std::string& begin, const std::string& end,
                   const std::vector<Valued>& cases) {
  for (const Valued& one : cases) {
    SCOPED_TRACE(one.schema);
    const Json with = tool_with(one.schema, R"(, "$defs": {"n": {"enum": [1, 2]}})");
    for (const Vocabulary* words : {&with_marks(), &without_marks()}) {
      const AnswerConstraint answer = held(*words, format, with);
      for (const auto& [written, json] : one.fit) {
        const std::string text = begin + written + end;
        EXPECT_EQ(passes(*words, answer, text), std::string::npos) << text;
        const Json calls = read(format, with, text).calls;
        ASSERT_EQ(calls.size(), 1u) << text;
        EXPECT_EQ(calls[0]["arguments"]["a"], Json::parse(json)) << text;
      }
      for (const std::string& written : one.wrong) {
        EXPECT_NE(passes(*words, answer, begin + written + end), std::string::npos) << written;
      }
    }
  }
}

const std::string kDay = R"({"type": "string", "format": "date"})";
const std::string kCode = R"({"type": "string", "pattern": "^[A-Z]+/[0-9]$"})";

TEST(HeldCalls, BareValuesInTags) {
  const std::vector<Valued> cases{
      {R"({"type": "string"})",
       {{"a <b>\n\n\"c\" ", R"("a <b>\n\n\"c\" ")"}, {"", "\"\""}, {"12", "\"12\""}},
       {}},
      {R"({"type": ["string", "null"]})", {{"null", "null"}, {"nullify", "\"nullify\""}}, {}},
      {R"({"type": ["integer", "string"], "maxLength": 2})",
       {{"1234", "1234"}, {"ab", "\"ab\""}},
       {"abc"}},
      {R"({"type": "string", "minLength": 2, "maxLength": 3})",
       {{"äbc", "\"äbc\""}},
       {"a", "abcd", ""}},
      {R"({"enum": ["x", "x y", 3, null]})",
       {{"x y", "\"x y\""}, {"3", "3"}, {"null", "null"}},
       {"y", "4"}},
      {R"({"$ref": "#/$defs/n"})", {{"2", "2"}}, {"3", "\"2\""}},
      {R"({"type": "boolean"})", {{"true", "true"}}, {"yes", "\"true\""}},
      {R"({"type": "number"})", {{"-1.5e3", "-1500.0"}}, {"one"}},
      {R"({"type": "array", "items": {"type": "string"}})",
       {{R"(["a", "b"])", R"(["a", "b"])"}},
       {"[1]", "a"}},
      {R"({"anyOf": [{"type": "string", "enum": ["all"]}, {"type": "integer"}]})",
       {{"all", "\"all\""}, {"7", "7"}},
       {"some"}},
      {kDay, {{"2024-02-28", "\"2024-02-28\""}}, {"2024-13-01", "today"}},
      {kCode, {{"AB/1", "\"AB/1\""}}, {"ab/1", "AB/12"}}};
  expect_values(Format::kQwenXml, "<tool_call>\n<function=f>\n<parameter=a>\n",
                "\n</parameter>\n</function>\n</tool_call>", cases);
  expect_values(Format::kGlm, "<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>",
                "</arg_value>\n</tool_call>", cases);
}

TEST(HeldCalls, ValuesOfGemma) {
  expect_values(
      Format::kGemmaFunction, "<start_function_call>call:f{a:", "}<end_function_call>",
      {{R"({"type": "string"})",
        {{"<escape>a, \"b\" {c}<escape>", R"("a, \"b\" {c}")"}, {"<escape><escape>", "\"\""}},
        {"a", "<escape>a", "<escape>a<end_function_call><escape>"}},
       {R"({"type": ["string", "null"], "maxLength": 2})",
        {{"null", "null"}, {"<escape>ab<escape>", "\"ab\""}},
        {"<escape>abc<escape>"}},
       {R"({"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 2})",
        {{"[1]", "[1]"}, {"[1, 2]", "[1,2]"}},
        {"[]", "[1,2,3]", "[true]"}},
       {R"({"type": "array"})", {{"[1,{b:[]},<escape>x<escape>]", R"([1,{"b":[]},"x"])"}}, {"1"}},
       {R"({"type": "object", "properties": {"x": {"type": "boolean"}, "y": {"type": "null"}}})",
        {{"{}", "{}"},
         {"{y:null}", R"({"y":null})"},
         {"{x:true,y:null}", R"({"x":true,"y":null})"}},
        {"{x:1}", "{z:1}"}},
       {R"({"type": "object", "additionalProperties": {"type": "integer"}})",
        {{"{b:1,c:2}", R"({"b":1,"c":2})"}},
        {"{b:true}"}},
       {R"({"const": {"k": ["v", true]}})",
        {{"{k:[<escape>v<escape>,true]}", R"({"k":["v",true]})"}},
        {"{}"}},
       {kDay, {{"<escape>2024-02-28<escape>", "\"2024-02-28\""}}, {"<escape>now<escape>"}}});
}

TEST(HeldCalls, ValuesOfPython) {
  expect_values(
      Format::kLlamaPythonic, "[f(a=", ")]",
      {{R"({"type": "string"})",
        {{"\"a\"", "\"a\""}, {"'it\\'s'", "\"it's\""}, {R"("é\n\"\\😀")", R"("é\n\"\\😀")"}},
        {"a", "1"}},
       {R"({"type": ["boolean", "null"]})", {{"True", "true"}, {"None", "null"}}, {"true", "1"}},
       {R"({"enum": ["a", 1, null]})", {{"\"a\"", "\"a\""}, {"None", "null"}}, {"\"b\""}},
       {R"({"type": "array", "items": {"type": "object"}})",
        {{"[{\"k\": [True, 'x']}]", R"([{"k":[true,"x"]}])"}},
        {"[1]"}},
       {kCode, {{"\"AB/1\"", "\"AB/1\""}}, {"\"b\"", "'AB/1'"}}});
}

TEST(HeldCalls, SchemasThatReferToThemselves) {
  const Json with = tool_with(R"({"$ref": "#/$defs/t"})",
                              R"(, "$defs": {"t": {"type": "object", "properties": {"v":
      {"type": "integer"}, "in": {"$ref": "#/$defs/t"}}, "required": ["v"]}})");
  const AnswerConstraint answer = held(with_marks(), Format::kGemmaCall, with);
  const std::string begin = "<|tool_call>call:f{a:", end = "}<tool_call|>";
  EXPECT_EQ(passes(with_marks(), answer, begin + "{v:1,in:{v:2,in:{v:3}}}" + end),
            std::string::npos);
  EXPECT_NE(passes(with_marks(), answer, begin + "{v:1,in:{in:{v:3}}}" + end), std::string::npos);
}

TEST(HeldCalls, WhatCannotBeHeldIsSaid) {
  const auto refused = [](Format format, const std::string& schema) -> std::string {
    try {
      calls_grammar(format, tool_with(schema), call_marks(format)[0], nullptr);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      return error.what();
    }
    return "";
  };
  for (const Format format : {Format::kQwenXml, Format::kGlm, Format::kGemmaCall}) {
    EXPECT_NE(refused(format, R"({"type": "string", "format": "odd"})").find("odd"),
              std::string::npos);
    EXPECT_NE(refused(format, R"({"oneOf": [{"type": "string"}]})").find("oneOf"),
              std::string::npos);
    EXPECT_NE(refused(format, R"({"$ref": "#/$defs/none"})").find("none"), std::string::npos);
  }
  EXPECT_NE(refused(Format::kQwenXml, R"({"type": ["string", "object"]})").find("may be a string"),
            std::string::npos);
}

TEST(HeldCalls, ForcedCallsFitInEveryFormat) {
  std::mt19937 random(12);
  for (int i = 1; i <= static_cast<int>(Format::kHarmony); ++i) {
    const auto format = static_cast<Format>(i);
    for (const std::string name : {"", "book"}) {
      SCOPED_TRACE(std::to_string(i) + name);
      const std::string opening = call_opening(format, name);
      ASSERT_NE(opening, "");
      FreeParts free;
      const Vocabulary& words = with_marks();
      free.begun_call = words.compile(forced_call_grammar(format, tools(), name, words.tokens()));
      int finished = 0;
      for (int round = 0; round < 12; ++round) {
        AnswerConstraint answer(nullptr, words.tokenizer->vocab_size(), free, {});
        const auto rest = walk(words, answer, random);
        if (!rest) continue;
        ++finished;
        const Read found = read(format, tools(), opening + *rest);
        ASSERT_GE(found.calls.size(), 1u) << opening << *rest;
        for (const Json& call : found.calls) {
          expect_fitting(call, opening + *rest);
          if (!name.empty()) {
            EXPECT_EQ(call["name"], name);
          }
        }
      }
      EXPECT_GT(finished, 2);
    }
  }
}

}  // namespace
}  // namespace mlxr::testing
