// Values of strict tools' arguments in the formats that do not write them as JSON.
#include "core/base/error.h"
#include "tests/core/runtime/chat/held_calls.h"

namespace mlxr::testing {
namespace {

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

TEST(HeldValues, BareValuesInTags) {
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

TEST(HeldValues, ValuesOfGemma) {
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

TEST(HeldValues, ValuesOfPython) {
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

TEST(HeldValues, SchemasThatReferToThemselves) {
  const Json with = tool_with(R"({"$ref": "#/$defs/t"})",
                              R"(, "$defs": {"t": {"type": "object", "properties": {"v":
      {"type": "integer"}, "in": {"$ref": "#/$defs/t"}}, "required": ["v"]}})");
  const AnswerConstraint answer = held(with_marks(), Format::kGemmaCall, with);
  const std::string begin = "<|tool_call>call:f{a:", end = "}<tool_call|>";
  EXPECT_EQ(passes(with_marks(), answer, begin + "{v:1,in:{v:2,in:{v:3}}}" + end),
            std::string::npos);
  EXPECT_NE(passes(with_marks(), answer, begin + "{v:1,in:{in:{v:3}}}" + end), std::string::npos);
}

TEST(HeldValues, WhatCannotBeHeldIsSaid) {
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

}  // namespace
}  // namespace mlxr::testing
