// What each format's calls come to, whatever pieces they arrive in.
#include <gtest/gtest.h>

#include "core/runtime/chat/answer_parser.h"
#include "core/runtime/chat/tool_parsers/tool_schemas.h"

namespace mlxr {
namespace {

using Json = nlohmann::ordered_json;

Json tools() {
  const auto tool = [](const char* name, Json properties) {
    return Json{{"type", "function"},
                {"function",
                 {{"name", name},
                  {"parameters", {{"type", "object"}, {"properties", std::move(properties)}}}}}};
  };
  return Json::array({tool("weather", {{"city", {{"type", "string"}}},
                                       {"days", {{"type", "integer"}}},
                                       {"tags", {{"type", "array"}}}}),
                      tool("time", Json::object())});
}

// "text(reasoning)[name{arguments}]", events joined; calls must come in order and whole.
std::string written(const ChatEvents& events) {
  std::string all;
  bool open = false;
  for (const ChatEvent& event : events) {
    switch (event.kind) {
      case ChatEvent::Kind::kText:
        EXPECT_FALSE(open);
        all += event.text;
        break;
      case ChatEvent::Kind::kReasoning:
        all.append("(").append(event.text).append(")");
        break;
      case ChatEvent::Kind::kCall:
        EXPECT_FALSE(open);
        open = true;
        all.append("[")
            .append(std::to_string(event.call))
            .append(":")
            .append(event.text)
            .append(" ");
        break;
      case ChatEvent::Kind::kArguments:
        EXPECT_TRUE(open);
        EXPECT_FALSE(event.text.empty());
        all += event.text;
        break;
      case ChatEvent::Kind::kCallEnd:
        EXPECT_TRUE(open);
        open = false;
        all += "]";
        break;
    }
  }
  EXPECT_FALSE(open) << all;
  size_t between = 0;
  while ((between = all.find(")(")) != std::string::npos) all.erase(between, 2);
  return all;
}

std::string parsed(const AnswerSyntax& syntax, const std::vector<std::string>& pieces) {
  const auto parser = make_answer_parser(syntax);
  ChatEvents events;
  for (const std::string& piece : pieces) parser->push(piece, events);
  parser->finish(events);
  for (size_t i = 0; i < events.size(); ++i) {
    if (events[i].kind != ChatEvent::Kind::kCall) continue;
    std::string arguments;
    for (++i; events[i].kind == ChatEvent::Kind::kArguments; ++i) arguments += events[i].text;
    const Json value = Json::parse(arguments, nullptr, false);
    EXPECT_TRUE(value.is_object()) << arguments;
  }
  return written(events);
}

AnswerSyntax syntax_of(ToolFormat format) {
  AnswerSyntax syntax;
  syntax.tools = format;
  syntax.tool_list = tools();
  return syntax;
}

// The same result whole, split in two at every place, and character by character.
void expect(const AnswerSyntax& syntax, const std::string& text, const std::string& wanted) {
  EXPECT_EQ(parsed(syntax, {text}), wanted);
  std::vector<std::string> characters;
  for (size_t i = 0; i < text.size(); ++i) {
    characters.push_back(text.substr(i, 1));
    EXPECT_EQ(parsed(syntax, {text.substr(0, i), text.substr(i)}), wanted) << "split at " << i;
  }
  EXPECT_EQ(parsed(syntax, characters), wanted) << "by characters";
}

void expect(ToolFormat format, const std::string& text, const std::string& wanted) {
  expect(syntax_of(format), text, wanted);
}

// However it is cut, arguments are valid JSON (parsed() checks that) and nothing throws.
void cut_everywhere(ToolFormat format, const std::string& text) {
  for (size_t i = 0; i <= text.size(); ++i) parsed(syntax_of(format), {text.substr(0, i)});
}

TEST(ToolParsers, Hermes) {
  const std::string call =
      "Let me see.\n<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Accra\"}}\n"
      "</tool_call>\n<tool_call>\n{\"name\": \"time\", \"arguments\": {}}\n</tool_call>";
  expect(ToolFormat::kHermes, call, "Let me see.[0:weather {\"city\":\"Accra\"}][1:time {}]");
  cut_everywhere(ToolFormat::kHermes, call);
  expect(ToolFormat::kHermes, "a < b and <tool_ is no tag ", "a < b and <tool_ is no tag ");
}

TEST(ToolParsers, JsonCallsInOddShapes) {
  expect(ToolFormat::kHermes,
         R"(<tool_call>{"arguments": {"days": 2}, "name": "weather"}</tool_call>)",
         R"([0:weather {"days":2}])");
  expect(ToolFormat::kHermes,
         R"(<tool_call>{"name": "weather", "arguments": "{\"days\": 2}"}</tool_call>)",
         R"([0:weather {"days":2}])");
  expect(ToolFormat::kHermes,
         R"(<tool_call>{"function": {"name": "weather", "arguments": {"days": 2}}}</tool_call>)",
         R"([0:weather {"days":2}])");
  expect(ToolFormat::kHermes, R"(<tool_call>{"name": "time", "arguments": null}</tool_call>.)",
         "[0:time {}].");
  expect(ToolFormat::kHermes, R"(<tool_call>{"name": "time"}</tool_call>)", "[0:time {}]");
  expect(ToolFormat::kHermes, R"(<tool_call>{"name": "a"}{"name": "b"}</tool_call>)",
         "[0:a {}][1:b {}]");
}

TEST(ToolParsers, WhatIsNoCallStaysText) {
  expect(ToolFormat::kHermes, "<tool_call>oops</tool_call>", "<tool_call>oops</tool_call>");
  expect(ToolFormat::kHermes, "<tool_call>{\"x\": 1}", "<tool_call>{\"x\": 1}");
  AnswerSyntax without = syntax_of(ToolFormat::kHermes);
  without.tool_list = nullptr;
  expect(without, "<tool_call>{\"name\": \"time\"}</tool_call>",
         "<tool_call>{\"name\": \"time\"}</tool_call>");
}

// Found by tests/fuzz/tool_parsers.cpp, or by writing it.
TEST(ToolParsers, NoTextIsLostWhereACallWasOnlyBegun) {
  expect(ToolFormat::kMistral, "Ok[TOOL_CALLS]weather is fine", "Okweather is fine");
  expect(ToolFormat::kMistral, "[TOOL_CALLS][1, 2", "[1, 2");
  expect(ToolFormat::kMistral, "[TOOL_CALLS][]", "[]");
  expect(ToolFormat::kMistral, "[TOOL_CALLS][n{}[TOOL_CALLS][] so", "[n{}[] so");
  expect(ToolFormat::kMistral, "[TOOL_CALLS][{\"name\": 1", "[{\"name\": 1");
  expect(ToolFormat::kMistral, "[TOOL_CALLS][ARGS", "[ARGS");
  expect(ToolFormat::kDeepSeek, "<｜tool▁call▁begin｜>fun", "fun");
  expect(ToolFormat::kLlamaJson, ";; <|python_tag|>hello", ";; hello");
  expect(ToolFormat::kLlamaJson, "[]", "[]");
  expect(ToolFormat::kLlamaJson, " [ ] so {}", " [ ] so {}");
  expect(ToolFormat::kLlamaJson, "<|python_tag|>[]", "[]");
  expect(ToolFormat::kGemmaCode, "```tool_code\n[,;oops", "```tool_code\n[,;oops");
  expect(ToolFormat::kLlamaPythonic, "[,;oops", "[,;oops");
}

TEST(ToolParsers, StringsBecomeWhatTheSchemaWants) {
  const auto hermes = [](const std::string& arguments) {
    return "<tool_call>{\"name\": \"weather\", \"arguments\": " + arguments + "}</tool_call>";
  };
  const auto comes_to = [&](const std::string& arguments, const std::string& typed) {
    expect(ToolFormat::kHermes, hermes(arguments), "[0:weather " + typed + "]");
  };
  comes_to(R"({"days": "2", "city": "2"})", R"({"days":2,"city":"2"})");
  comes_to(R"({"tags": "[\"a\", \"}\"]", "days": "-1"})", R"({"tags":["a","}"],"days":-1})");
  comes_to(R"({"days": "two", "tags": "a"})", R"({"days":"two","tags":"a"})");
  comes_to(R"({"days": "2.5", "other": "2"})", R"({"days":"2.5","other":"2"})");
  comes_to(R"({"city": {"days": "2"}, "tags": ["days", "2"]})",
           R"({"city":{"days":"2"},"tags":["days","2"]})");
  expect(ToolFormat::kHermes, "<tool_call>{\"name\": \"weather\", \"arguments\": {\"days\": \"1",
         "[0:weather {\"days\":1}]");
  expect(ToolFormat::kLlamaPythonic, "[weather(days='3', city='Oslo')]",
         R"([0:weather {"days":3,"city":"Oslo"}])");
}

TEST(ToolParsers, PythonStringsHaveJsonsEscapesToo) {
  expect(ToolFormat::kLlamaPythonic, R"([weather(city="\u00e9\ud83d\ude00\b\/", days=1)])",
         R"([0:weather {"city":"é😀\b/","days":1}])");
  expect(ToolFormat::kLlamaPythonic, R"([weather(city='\ud83d\un', days=1)])",
         R"([0:weather {"city":"ud83dun","days":1}])");
}

TEST(ToolParsers, TypesAreFoundBehindReferencesAndInValues) {
  const Json tools = Json::array(
      {{{"type", "function"}, {"function", {{"name", "f"}, {"parameters", Json::parse(R"(
      {"properties": {"a": {"$ref": "#/$defs/n"}, "b": {"enum": [true, "no"]}, "c": {"const": 5}},
       "$defs": {"n": {"$ref": "#/$defs/m"}, "m": {"type": "number"}}})")}}}}});
  const ToolSchemas schemas(tools);
  EXPECT_EQ(schemas.typed("f", "a", "1.5"), "1.5");
  EXPECT_EQ(schemas.typed("f", "b", "true"), "true");
  EXPECT_EQ(schemas.typed("f", "b", "no"), "\"no\"");
  EXPECT_EQ(schemas.typed("f", "c", "5"), "5");
  EXPECT_TRUE(schemas.wants_no_string("f", "c"));
}

TEST(ToolParsers, TextOfACallIsNotSaidAgain) {
  const std::string calls = R"([{"name": "time", "parameters": {}}, )";
  expect(ToolFormat::kLlamaJson, calls, "[0:time {}]");
  expect(ToolFormat::kLlamaJson, calls + "oops", "[0:time {}]oops");
}

TEST(ToolParsers, MarksMayComeTwice) {
  expect(ToolFormat::kLlamaPythonic, "<|python_tag|><|python_tag|>[time()]", "[0:time {}]");
  expect(ToolFormat::kLlamaPythonic, "[,time()]", "[0:time {}]");
  expect(ToolFormat::kHarmony,
         "<|channel|>commentary to=functions.time<|message|><|message|>{}<|call|>", "[0:time {}]");
}

TEST(ToolParsers, NothingIsCalledWithoutAName) {
  expect(ToolFormat::kMistral, "[TOOL_CALLS][ARGS]{\"a\": 1}", "[ARGS]{\"a\": 1}");
  expect(ToolFormat::kDeepSeek, "<｜tool▁call▁begin｜>{\"a\": 1}", "{\"a\": 1}");
  expect(ToolFormat::kGlm, "<tool_call></tool_call>", "<tool_call></tool_call>");
  expect(ToolFormat::kHermes, "<tool_call>{\"name\": \" \"}</tool_call>",
         "<tool_call>{\"name\": \" \"}</tool_call>");
  expect(ToolFormat::kQwenXml, "<tool_call><function=>", "<tool_call><function=>");
  expect(ToolFormat::kGemmaCall, "<|tool_call>call: {}<tool_call|>",
         "<|tool_call>call: {}<tool_call|>");
  expect(ToolFormat::kHarmony, "<|channel|>commentary to=functions. <|message|>a", "a");
}

// Found by tests/fuzz/tool_parsers.
TEST(ToolParsers, WhatIsNoCallIsGivenBackWhole) {
  expect(ToolFormat::kGemmaFunction, "<start_function_call>x<end_function_call>",
         "<start_function_call>x<end_function_call>");
  expect(ToolFormat::kCommandR, "<|START_ACTION|>[] so {\"i\": 1}",
         "<|START_ACTION|>[] so {\"i\": 1}");
  expect(ToolFormat::kLlamaPythonic, "[time(), tim()]", "[0:time {}]tim()]");
  cut_everywhere(ToolFormat::kLlamaPythonic, "[time(), tim()]");
}

TEST(ToolParsers, AMemberThatBreaksIsReadUpToWhereItBroke) {
  expect(ToolFormat::kHermes, R"(<tool_call>{"name":"time","x":[{"name":"time"} z</tool_call>)",
         "[0:time {}]");
  expect(ToolFormat::kHermes, R"(<tool_call>{"x":"<tool_call>", "y":[z</tool_call>)",
         R"(<tool_call>{"x":"<tool_call>", "y":[z</tool_call>)");
}

TEST(ToolParsers, DepthIsBounded) {
  const std::string deep(100'000, '[');
  for (const std::string& text : {R"(<tool_call>{"name": "weather", "arguments": {"a": )" + deep,
                                  R"(<tool_call>{"name": {"a": )" + deep}) {
    parsed(syntax_of(ToolFormat::kHermes), {text});
  }
  std::string prints = "```tool_code\n";
  for (int i = 0; i < 100'000; ++i) prints += "print(";
  parsed(syntax_of(ToolFormat::kGemmaCode), {prints});
}

TEST(ToolParsers, BrokenArgumentsAreCompleted) {
  expect(
      ToolFormat::kHermes,
      "<tool_call>{\"name\": \"weather\", \"arguments\": {\"city\": \"Ac\ncra\", \"days\": oops}}"
      "</tool_call>",
      R"([0:weather {"city":"Ac\ncra"}])");
  expect(ToolFormat::kHermes, R"(<tool_call>{"name": "weather", "arguments": {"city": "Ac)",
         R"([0:weather {"city":"Ac"}])");
  expect(ToolFormat::kHermes, R"(<tool_call>{"name": "weather", "arguments": {"tags": [1, 23)",
         R"([0:weather {"tags":[1]}])");
}

TEST(ToolParsers, LlamaJson) {
  const std::string call = R"({"name": "weather", "parameters": {"city": "Accra"}})";
  expect(ToolFormat::kLlamaJson, call, R"([0:weather {"city":"Accra"}])");
  expect(ToolFormat::kLlamaJson, "<|python_tag|>" + call + "; " + call,
         R"([0:weather {"city":"Accra"}][1:weather {"city":"Accra"}])");
  expect(ToolFormat::kLlamaJson, R"({"answer": 42})", R"({"answer": 42})");
  expect(ToolFormat::kLlamaJson, R"({"name": "Bob", "age": 3})", R"({"name": "Bob", "age": 3})");
  expect(ToolFormat::kLlamaJson, "Hello {\"name\": \"time\"}", "Hello {\"name\": \"time\"}");
  cut_everywhere(ToolFormat::kLlamaJson, call);
}

TEST(ToolParsers, LlamaPythonic) {
  expect(ToolFormat::kLlamaPythonic,
         R"([weather(city="Accra, \"GH\"", days=3, tags=['a', None, True]), time()])",
         R"([0:weather {"city":"Accra, \"GH\"","days":3,"tags":["a",null,true]}][1:time {}])");
  expect(ToolFormat::kLlamaPythonic, "[1, 2, 3]", "[1, 2, 3]");
  expect(ToolFormat::kLlamaPythonic, "Use [time()] now", "Use [time()] now");
  cut_everywhere(ToolFormat::kLlamaPythonic, "[weather(city='x', days=12), time()]");
}

TEST(ToolParsers, Mistral) {
  expect(ToolFormat::kMistral,
         R"([TOOL_CALLS][{"name": "weather", "arguments": {"days": 1}, "id": "abcdefghi"},
            {"name": "time", "arguments": {}}])",
         R"([0:weather {"days":1}][1:time {}])");
  expect(ToolFormat::kMistral, R"(Ok[TOOL_CALLS]weather[ARGS]{"days": 1}[TOOL_CALLS]time[ARGS]{})",
         R"(Ok[0:weather {"days":1}][1:time {}])");
  expect(ToolFormat::kMistral, R"([TOOL_CALLS]weather[CALL_ID]123456789[ARGS]{"days": 1})",
         R"([0:weather {"days":1}])");
  cut_everywhere(ToolFormat::kMistral, R"([TOOL_CALLS]weather[ARGS]{"days": 1})");
}

TEST(ToolParsers, DeepSeek) {
  expect(ToolFormat::kDeepSeek,
         "Sure.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n"
         "{\"days\": 1}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>time\n"
         "```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
         "Sure.[0:weather {\"days\":1}][1:time {}]");
  expect(ToolFormat::kDeepSeek,
         "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>weather<｜tool▁sep｜>{\"days\": 1}"
         "<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
         "[0:weather {\"days\":1}]");
}

TEST(ToolParsers, ArgumentsInTagsFollowTheSchema) {
  expect(
      ToolFormat::kQwenXml,
      "<tool_call>\n<function=weather>\n<parameter=city>\n12\n</parameter>\n<parameter=days>\n12\n"
      "</parameter>\n</function>\n</tool_call>",
      R"([0:weather {"city":"12","days":12}])");
  expect(ToolFormat::kGlm,
         "Hm<tool_call>weather\n<arg_key>days</arg_key>\n<arg_value>2</arg_value>\n"
         "<arg_key>city</arg_key>\n<arg_value>A \"b\"</arg_value>\n</tool_call>"
         "<tool_call>time\n</tool_call>",
         R"(Hm[0:weather {"days":2,"city":"A \"b\""}][1:time {}])");
  cut_everywhere(
      ToolFormat::kGlm,
      "<tool_call>weather\n<arg_key>days</arg_key>\n<arg_value>2</arg_value></tool_call>");
}

TEST(ToolParsers, Gemma) {
  expect(ToolFormat::kGemmaFunction,
         "<start_function_call>call:weather{city:<escape>A, {b}<escape>,days:2,tags:[1,"
         "<escape>x<escape>]}<end_function_call>",
         R"([0:weather {"city":"A, {b}","days":2,"tags":[1,"x"]}])");
  expect(ToolFormat::kGemmaCall, "<|tool_call>call:weather{city:<|\"|>Accra<|\"|>}<tool_call|>Done",
         R"([0:weather {"city":"Accra"}]Done)");
  expect(ToolFormat::kGemmaCode, "Yes\n```tool_code\nprint(weather(city='a'))\n```\nso",
         "Yes[0:weather {\"city\":\"a\"}]\nso");
  cut_everywhere(ToolFormat::kGemmaFunction, "<start_function_call>call:weather{days:2}");
}

TEST(ToolParsers, PhiGraniteAndCommandR) {
  expect(ToolFormat::kPhi, R"(<|tool_call|>[{"name": "time", "arguments": {}}]<|/tool_call|>)",
         "[0:time {}]");
  expect(ToolFormat::kPhiFunctools, R"(functools[{"name": "time", "arguments": {}}])",
         "[0:time {}]");
  expect(ToolFormat::kGranite, R"(<|tool_call|>[{"name": "time", "arguments": {}}])",
         "[0:time {}]");
  expect(ToolFormat::kCommandR,
         R"(<|START_ACTION|>[
    {"tool_call_id": "0", "tool_name": "weather", "parameters": {"days": 1}}
]<|END_ACTION|>)",
         R"([0:weather {"days":1}])");
  expect(ToolFormat::kCommandR, "<|START_RESPONSE|>Hi<|END_RESPONSE|>", "Hi");
  expect(ToolFormat::kCommandRPlus,
         "Action: ```json\n[{\"tool_name\": \"time\", \"parameters\": {}}]\n```", "[0:time {}]");
}

TEST(ToolParsers, Harmony) {
  expect(ToolFormat::kHarmony,
         "<|channel|>analysis<|message|>Need it.<|end|><|start|>assistant<|channel|>commentary "
         "to=functions.weather <|constrain|>json<|message|>{\"days\":1}<|call|>",
         "(Need it.)[0:weather {\"days\":1}]");
  expect(ToolFormat::kHarmony,
         "<|channel|>analysis<|message|>Hm<|end|><|start|>assistant<|channel|>final<|message|>Hi",
         "(Hm)Hi");
}

TEST(Reasoning, IsSplitOutAtTheBeginningOnly) {
  AnswerSyntax syntax = syntax_of(ToolFormat::kHermes);
  syntax.reasoning = ReasoningTags{"<think>", "</think>"};
  expect(syntax, "<think>\nso it is\n</think>\n\nYes.", "(so it is)Yes.");
  expect(syntax, "<think></think>Yes.", "Yes.");
  expect(syntax, "A tag: <think>x</think>", "A tag: <think>x</think>");
  expect(syntax, "<think>a</think><tool_call>{\"name\":\"time\"}</tool_call>", "(a)[0:time {}]");
  expect(syntax, "<think>never ends <tool_call>", "(never ends <tool_call>)");
  syntax.begins_in_reasoning = true;
  expect(syntax, "so</think>Yes", "(so)Yes");
}

TEST(ToolFormats, AreChosenFromTheTemplate) {
  EXPECT_EQ(find_tool_format("x <tool_call>\n{\"name\""), ToolFormat::kHermes);
  EXPECT_EQ(find_tool_format("<tool_call><function=a>"), ToolFormat::kQwenXml);
  EXPECT_EQ(find_tool_format("<tool_call>{name}<arg_key>"), ToolFormat::kGlm);
  EXPECT_EQ(find_tool_format("[TOOL_CALLS]"), ToolFormat::kMistral);
  EXPECT_EQ(find_tool_format("[TOOL_CALLS]{{ name }}[ARGS]"), ToolFormat::kMistralNamed);
  EXPECT_EQ(find_tool_format("<|python_tag|>"), ToolFormat::kLlamaJson);
  EXPECT_EQ(find_tool_format("<|tool_call|>[..]<|/tool_call|>"), ToolFormat::kPhi);
  EXPECT_EQ(find_tool_format("{{ messages }}"), ToolFormat::kNone);
}

TEST(ToolFormats, AForcedCallIsReadFromItsOpening) {
  for (const ToolFormat format :
       {ToolFormat::kHermes, ToolFormat::kLlamaJson, ToolFormat::kMistral, ToolFormat::kPhi}) {
    const std::string rest = " {\"days\": 1}}";
    EXPECT_EQ(parsed(syntax_of(format), {call_opening(format, "weather"), rest}),
              "[0:weather {\"days\":1}]");
  }
  const ToolFormat named = ToolFormat::kMistralNamed;
  EXPECT_EQ(call_opening(named, "weather"), "[TOOL_CALLS]weather[ARGS]");
  EXPECT_EQ(parsed(syntax_of(named), {call_opening(named, "weather"), "{\"days\": 1}"}),
            "[0:weather {\"days\":1}]");
}

}  // namespace
}  // namespace mlxr
