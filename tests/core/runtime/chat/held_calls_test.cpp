// Calls of strict tools in every format, in a vocabulary that has the format's marks as control
// tokens and in one where they are text: what fits passes token by token, what does not is stopped
// inside the call, text round calls is free, and whatever the masks let through is read as calls
// that fit.
#include "tests/core/runtime/chat/held_calls.h"

#include <random>

namespace mlxr::testing {
namespace {

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

// How a format spells a call of "book".
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
      {Format::kMistralNamed, "[TOOL_CALLS] [" + named, kJsonArguments, "}]", "}, " + named},
      {Format::kMistralNamed, "[TOOL_CALLS]book[ARGS]", kJsonArguments, "", ""},
      {Format::kLlamaJson, R"({"name": "book", "parameters": )", kJsonArguments, "}",
       R"(}; {"name": "book", "parameters": )", ""},
      {Format::kLlamaJson, R"(<|python_tag|>{"type": "function", "name": "book", "parameters": )",
       kJsonArguments, "}", R"(}; {"name": "book", "parameters": )", ""},
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
    const std::string more = s.more.empty() ? s.end + "\n" + s.begin : s.more;
    std::vector<std::pair<std::string, size_t>> texts{
        {call, 1}, {s.begin + s.arguments + more + s.arguments + s.end, 2}};
    if (!s.text_before.empty()) texts.emplace_back(s.text_before + call, 1);
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
    const std::string unknown = replaced(s.begin, "book", "hook") + s.arguments + s.end;
    if (s.format == Format::kLlamaPythonic) return;  // there it is no call, but text
    EXPECT_NE(passes(words, answer, unknown), std::string::npos) << unknown;
  });
}

TEST(HeldCalls, AMarkMayBeAStopToken) {
  const Vocabulary words({"<|tool_call>", "<tool_call|>", "<|\"|>", "<|start|>", "<|channel|>",
                          "<|message|>", "<|end|>", "<|call|>", "<|return|>"},
                         {"<tool_call|>", "<|call|>", "<|return|>"});
  const AnswerConstraint gemma = held(words, Format::kGemmaCall, tools());
  const std::string call = "<|tool_call>call:book{days:3,unit:<|\"|>C<|\"|>,at:{lat:1}}";
  EXPECT_EQ(passes(words, gemma, call + "<tool_call|>"), std::string::npos);
  EXPECT_NE(passes(words, gemma, "<|tool_call>call:book{<tool_call|>"), std::string::npos);
  const AnswerConstraint harmony = held(words, Format::kHarmony, tools());
  const std::string message = "<|channel|>commentary to=functions.book json<|message|>";
  EXPECT_EQ(passes(words, harmony, message + kJsonArguments + "<|call|>"), std::string::npos);
  EXPECT_EQ(passes(words, harmony, message + "{<|call|>"), message.size() + 1);
  EXPECT_EQ(passes(words, harmony, "<|channel|>final<|message|>Yes.<|return|>"), std::string::npos);
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
    for (int i = 0; i < 6; ++i) {
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
    EXPECT_GT(finished, 1);
  });
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
      for (int round = 0; round < 6; ++round) {
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
      EXPECT_GT(finished, 1);
    }
  }
}

}  // namespace
}  // namespace mlxr::testing
