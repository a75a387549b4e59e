// Masks against the texts that a grammar describes: what random and adversarial walks through the
// masks write always fits, and what fits can always be written.
#include "core/runtime/constraint/constraint.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>
#include <regex>

#include "core/base/error.h"
#include "core/runtime/constraint/answer_constraint.h"
#include "tests/core/runtime/tokenizer/demo_vocab.h"

namespace mlxr::testing {
namespace {

using Kind = ConstraintSpec::Kind;
using Ids = std::vector<int32_t>;
using nlohmann::json;

const Ids kStops{0, 2};

ConstraintCompiler& compiler() {
  static ConstraintCompiler one(demo_tokenizer(), kStops);
  return one;
}

std::vector<uint32_t> mask_of(ConstraintMatcher& matcher) {
  std::vector<uint32_t> mask(mask_words(static_cast<size_t>(demo_tokenizer()->vocab_size())));
  matcher.mask(mask);
  return mask;
}

Ids allowed_by(const std::vector<uint32_t>& mask) {
  Ids ids;
  for (int32_t id = 0; id < demo_tokenizer()->vocab_size(); ++id) {
    if (allows(mask, id)) ids.push_back(id);
  }
  return ids;
}

bool is_stop(int32_t id) { return std::find(kStops.begin(), kStops.end(), id) != kStops.end(); }

// A text that the masks allow, every step of it chosen at random; empty when it grew too long.
std::optional<std::string> random_text(const Constraint& constraint, std::mt19937& random,
                                       size_t longest) {
  ConstraintMatcher matcher = constraint.matcher();
  std::string text;
  while (!matcher.is_stopped()) {
    if (text.size() > longest) return std::nullopt;
    const Ids ids = allowed_by(mask_of(matcher));
    EXPECT_FALSE(ids.empty());
    const int32_t id = ids[random() % ids.size()];
    matcher.accept(id);
    if (!is_stop(id)) text += demo_tokenizer()->token_bytes(id);
  }
  return text;
}

// Whether the text can be written token by token as the tokenizer splits it, and may end there.
bool fits(const Constraint& constraint, const std::string& text) {
  ConstraintMatcher matcher = constraint.matcher();
  for (const int32_t id : demo_tokenizer()->encode(text, false, false)) {
    if (matcher.is_stopped() || !allows(mask_of(matcher), id)) return false;
    matcher.accept(id);
  }
  if (matcher.is_stopped()) return true;
  const std::vector<uint32_t> mask = mask_of(matcher);
  EXPECT_EQ(allows(mask, kStops[0]), allows(mask, kStops[1])) << "every stop token, or none";
  return allows(mask, kStops[0]);
}

std::shared_ptr<const Constraint> compile(Kind kind, const std::string& text) {
  return compiler().compile({kind, text});
}

void refuse(Kind kind, const std::string& text, const std::string& words) {
  try {
    compile(kind, text);
    ADD_FAILURE() << text << " compiled";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_NE(std::string(error.what()).find(words), std::string::npos) << error.what();
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
  }
}

const std::string kPerson = R"({"type": "object",
  "properties": {"name": {"type": "string", "maxLength": 12},
                 "age": {"type": "integer", "minimum": 0, "maximum": 130},
                 "tags": {"type": "array", "items": {"enum": ["a", "b\n", "c\"d"]}, "maxItems": 3}},
  "required": ["name", "age", "tags"], "additionalProperties": false})";

TEST(Constraint, RandomWalksOverASchemaWriteOnlyWhatItAllows) {
  const auto constraint = compile(Kind::kJsonSchema, kPerson);
  std::mt19937 random(7);
  int finished = 0;
  for (int i = 0; i < 60; ++i) {
    const auto text = random_text(*constraint, random, 2000);
    if (!text) continue;
    ++finished;
    const json value = json::parse(*text, nullptr, false);
    ASSERT_TRUE(value.is_object()) << *text;
    ASSERT_EQ(value.size(), 3u) << *text;
    EXPECT_TRUE(value["name"].is_string()) << *text;
    EXPECT_TRUE(value["age"].is_number_integer()) << *text;
    EXPECT_LE(value["age"].get<int>(), 130);
    EXPECT_LE(value["tags"].size(), 3u);
    for (const json& tag : value["tags"]) {
      EXPECT_TRUE(tag == "a" || tag == "b\n" || tag == "c\"d") << *text;
    }
  }
  EXPECT_GT(finished, 50);
}

TEST(Constraint, WhatASchemaAllowsCanBeWritten) {
  const auto constraint = compile(Kind::kJsonSchema, kPerson);
  EXPECT_TRUE(fits(*constraint, R"({"name":"Ada","age":36,"tags":[]})"));
  EXPECT_TRUE(
      fits(*constraint, "{\"name\": \"\xC3\xA9\xE2\x82\xAC\", \"age\": 0, \"tags\": [\"a\"]}"));
  EXPECT_TRUE(fits(*constraint, "{\n  \"name\": \"x\",\n  \"age\": 1,\n  \"tags\": []\n}"));
  EXPECT_FALSE(fits(*constraint, R"({"name":"Ada","age":131,"tags":[]})"));
  EXPECT_FALSE(fits(*constraint, R"({"name":"Ada","age":36})"));
  EXPECT_FALSE(fits(*constraint, R"(Here: {"name":"Ada","age":36,"tags":[]})"));
}

TEST(Constraint, WhiteSpaceIsBounded) {
  const auto constraint = compile(Kind::kJsonSchema, R"({"type": "object"})");
  ConstraintMatcher matcher = constraint->matcher();
  for (const int32_t id : demo_tokenizer()->encode("{", false, false)) matcher.accept(id);
  const int32_t space = demo_tokenizer()->encode(" ", false, false).front();
  matcher.accept(space);
  EXPECT_FALSE(allows(mask_of(matcher), space));
}

TEST(Constraint, TheEndStopsTheMatcherAndAllowsEveryStopToken) {
  const auto constraint = compile(Kind::kRegex, "ab?");
  ConstraintMatcher matcher = constraint->matcher();
  EXPECT_FALSE(allows(mask_of(matcher), kStops[0]));
  matcher.accept(demo_tokenizer()->encode("a", false, false).front());
  EXPECT_FALSE(matcher.is_stopped());
  for (const int32_t stop : kStops) EXPECT_TRUE(allows(mask_of(matcher), stop));
  ConstraintMatcher other = matcher;
  for (const int32_t stop : kStops) {
    ConstraintMatcher copy = matcher;
    copy.accept(stop);
    EXPECT_TRUE(copy.is_stopped());
    EXPECT_EQ(allowed_by(mask_of(copy)), kStops);
  }
  other.accept(demo_tokenizer()->encode("b", false, false).front());
  EXPECT_TRUE(other.is_stopped());
  EXPECT_FALSE(matcher.is_stopped()) << "a copy went on, not this one";
}

TEST(Constraint, ControlTokensAreNeverText) {
  const auto constraint = compile(Kind::kRegex, "(?s:.)*");
  ConstraintMatcher matcher = constraint->matcher();
  const std::vector<uint32_t> mask = mask_of(matcher);
  for (int32_t id = 0; id < demo_tokenizer()->vocab_size(); ++id) {
    if (!demo_tokenizer()->is_special(id) || is_stop(id)) continue;
    EXPECT_FALSE(allows(mask, id)) << id;
  }
  EXPECT_GT(allowed_by(mask).size(), 5000u);
}

TEST(Constraint, ValidationLeavesTheStateAsItWas) {
  const auto constraint = compile(Kind::kJsonSchema, kPerson);
  ConstraintMatcher matcher = constraint->matcher();
  const Ids ids = demo_tokenizer()->encode(R"({"name":"Ada","age":7,"tags":["a"]})", false, false);
  Ids wrong = ids;
  wrong.insert(wrong.begin() + 3, ids.front());
  const auto before = mask_of(matcher);
  EXPECT_EQ(matcher.count_valid(ids), ids.size());
  EXPECT_LT(matcher.count_valid(wrong), wrong.size());
  EXPECT_EQ(mask_of(matcher), before);
  // Models may have more tokens than their tokenizer, and propose them.
  EXPECT_EQ(matcher.count_valid(Ids{ids[0], demo_tokenizer()->vocab_size() + 100, ids[1]}), 1u);
  EXPECT_EQ(matcher.count_valid(Ids{-1}), 0u);
  for (const int32_t id : ids) matcher.accept(id);
}

TEST(Constraint, RegexesAndLark) {
  const auto date = compile(Kind::kRegex, R"(\d{4}-\d{2}-\d{2})");
  EXPECT_TRUE(fits(*date, "2026-11-25"));
  EXPECT_FALSE(fits(*date, "2026-11-2"));
  EXPECT_FALSE(fits(*date, " 2026-11-25"));
  const auto sum = compile(Kind::kLark, "start: NUMBER (\"+\" NUMBER)*\nNUMBER: /[0-9]+/\n");
  EXPECT_TRUE(fits(*sum, "1+22+333"));
  EXPECT_FALSE(fits(*sum, "1+"));
}

TEST(Constraint, SentencePieceVocabularies) {
  GgufVocab vocab;
  vocab.model = "llama";
  vocab.tokens = {"<unk>", "<s>", "</s>", "\xE2\x96\x81", "{", "}", "\"", ":", "1", "a"};
  vocab.token_types = {2, 3, 3, 1, 1, 1, 1, 1, 1, 1};
  for (int byte = 0; byte < 256; ++byte) {
    std::array<char, 8> name{};
    std::snprintf(name.data(), name.size(), "<0x%02X>", static_cast<unsigned>(byte));
    vocab.tokens.emplace_back(name.data());
    vocab.token_types.push_back(6);
  }
  vocab.scores.assign(vocab.tokens.size(), 0.0f);
  vocab.bos = 1;
  vocab.eos = 2;
  vocab.unk = 0;
  ConstraintCompiler pieces(Tokenizer::from_gguf(vocab), {2});
  const auto constraint =
      pieces.compile({Kind::kJsonSchema, R"({"type": "object", "properties": {"a": {"const": 1}},
                              "required": ["a"], "additionalProperties": false})"});
  ConstraintMatcher matcher = constraint->matcher();
  std::vector<uint32_t> mask(mask_words(vocab.tokens.size()));
  for (const int32_t id : {4, 6, 9, 6, 7, 3, 8, 5}) {  // {"a": 1}
    matcher.mask(mask);
    EXPECT_TRUE(allows(mask, id)) << id;
    matcher.accept(id);
  }
  EXPECT_TRUE(matcher.is_stopped());
  // The byte token spells the same character.
  matcher = constraint->matcher();
  matcher.mask(mask);
  EXPECT_TRUE(allows(mask, 10 + '{'));
  EXPECT_FALSE(allows(mask, 10 + 'x'));
}

TEST(Constraint, ErrorsSayWhatIsWrong) {
  refuse(Kind::kJsonSchema, "{\"type\": \"object\"", "not valid JSON");
  refuse(Kind::kJsonSchema, "[1]", "is an object");
  refuse(Kind::kJsonSchema, R"({"type": "strin"})", "strin");
  refuse(Kind::kRegex, "a(b", "regex");
  refuse(Kind::kLark, "start: missing_rule\n", "missing_rule");
  refuse(Kind::kGbnf, "x ::= \"a\"", "root");
  refuse(Kind::kGbnf, "root ::= item", "'item'");
  refuse(Kind::kGbnf, "root ::= \"a\nb\"", "line 1");
  refuse(Kind::kGbnf, "root ::= \"a\"\n\nroot2 = \"b\"", "line 3");
  refuse(Kind::kGbnf, "root ::= [z-a]", "backwards");
  refuse(Kind::kGbnf, "root ::= <think>", "not supported");
}

TEST(Constraint, StrictRefusesWhatLenientIgnores) {
  const std::string schema = R"({"type": "array", "items": {"type": "integer"},
                                 "uniqueItems": true})";
  refuse(Kind::kJsonSchema, schema, "uniqueItems");
  const auto constraint = compiler().compile({Kind::kJsonSchema, schema, true});
  EXPECT_TRUE(fits(*constraint, "[1, 2]"));
}

TEST(Constraint, TheSameGrammarIsCompiledOnce) {
  EXPECT_EQ(compile(Kind::kRegex, "once"), compile(Kind::kRegex, "once"));
  EXPECT_NE(compile(Kind::kRegex, "once"), compile(Kind::kRegex, "twice"));
}

TEST(Constraint, AModelWithoutStopTokensIsRefused) {
  ConstraintCompiler endless(demo_tokenizer(), {});
  EXPECT_THROW(endless.compile({Kind::kRegex, "a"}), Error);
}

// ---- GBNF ----

TEST(Gbnf, RegularRulesMatchAsWritten) {
  const auto list = compile(Kind::kGbnf, R"(# a list
root ::= item ("," ws item)* ws
item ::= "- " [a-z0-9-]+ | "\u2022" [^\n\x00-\x1f]{1,3}   # two kinds
ws ::= [ \t]*
)");
  EXPECT_TRUE(fits(*list, "- abc"));
  EXPECT_TRUE(fits(*list, "- abc, - d-9"));
  EXPECT_TRUE(fits(*list, "\xE2\x80\xA2xyz"));
  EXPECT_FALSE(fits(*list, "\xE2\x80\xA2wxyz"));
  EXPECT_FALSE(fits(*list, "- ABC"));
  EXPECT_FALSE(fits(*list, "- abc,"));
}

TEST(Gbnf, LinesMayContinueAfterABar) {
  const auto choice =
      compile(Kind::kGbnf, "root ::= \"yes\" |\n  \"no\"\n  | (\n \"may\"\n \"be\" )\n");
  for (const char* text : {"yes", "no", "maybe"}) EXPECT_TRUE(fits(*choice, text)) << text;
  EXPECT_FALSE(fits(*choice, "yesno"));
}

TEST(Gbnf, RecursiveRulesBecomeAGrammar) {
  const auto value = compile(Kind::kGbnf, R"(
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::= "{" ws ( string ":" ws value ("," ws string ":" ws value)* )? "}" ws
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9]{1,15})? ws
ws ::= | " " | "\n" [ \t]{0,20}
)");
  EXPECT_TRUE(fits(*value, R"({"a": [1, -2.5e3, {"b": null}], "c": "d\n\u00e9"})"));
  EXPECT_TRUE(fits(*value, "{\n  \"a\": []\n}"));
  EXPECT_FALSE(fits(*value, R"([1])"));
  EXPECT_FALSE(fits(*value, R"({"a": tru})"));
  std::mt19937 random(3);
  int finished = 0;
  for (int i = 0; i < 300; ++i) {
    const auto text = random_text(*value, random, 200);
    if (!text) continue;
    ++finished;
    EXPECT_FALSE(json::parse(*text, nullptr, false).is_discarded()) << *text;
  }
  EXPECT_GT(finished, 3);
}

// ---- reasoning and calls ----

constexpr ReasoningTokens kThink{.open = 100, .close = 101};
constexpr int32_t kCall = 102;

int32_t id_of(const std::string& text) {
  return demo_tokenizer()->encode(text, false, false).front();
}

AnswerConstraint only_a(const FreeParts& free, const Ids& prompt) {
  return {compile(Kind::kRegex, "a").get(), demo_tokenizer()->vocab_size(), free, prompt};
}

Ids sorted(Ids ids) {
  std::sort(ids.begin(), ids.end());
  return ids;
}

Ids allowed_by(AnswerConstraint& answer) {
  const auto mask = answer.mask();
  return allowed_by({mask.begin(), mask.end()});
}

TEST(AnswerConstraint, WithoutFreePartsAllIsConstrained) {
  AnswerConstraint answer = only_a({}, {5, 100});
  EXPECT_EQ(allowed_by(answer), Ids{id_of("a")});
  answer.accept(id_of("a"));
  EXPECT_TRUE(answer.complete());
}

TEST(AnswerConstraint, ThePromptTellsWhetherReasoningComes) {
  const Ids may_reason = sorted({id_of("a"), kThink.open});
  const auto first = [](const Ids& prompt) {
    AnswerConstraint answer = only_a({.reasoning = kThink}, prompt);
    return allowed_by(answer);
  };
  EXPECT_EQ(first({5, 6}), may_reason);
  EXPECT_EQ(first({5, 100, 6}), Ids{}) << "no mask inside reasoning";
  EXPECT_EQ(first({5, 100, 6, 101, 7}), Ids{id_of("a")}) << "thinking is off";
  EXPECT_EQ(first({100, 6, 101, 7, 8, 9, 10, 11, 12}), may_reason) << "an earlier turn's";
  EXPECT_EQ(first({100, 6, 101, 7, 8, 9, 10, 11, 100}), Ids{});
}

TEST(AnswerConstraint, TheMaskStartsAfterReasoning) {
  AnswerConstraint answer = only_a({.reasoning = kThink}, {5, 6});
  for (const int32_t id : {100, 5000, 2, 100}) {
    answer.accept(id);
    EXPECT_TRUE(answer.mask().empty());
    EXPECT_FALSE(answer.complete());
  }
  answer.accept(101);
  EXPECT_EQ(allowed_by(answer), Ids{id_of("a")}) << "one reasoning only";
  answer.accept(id_of("a"));
  EXPECT_TRUE(answer.complete());
  EXPECT_EQ(allowed_by(answer), kStops);
}

TEST(AnswerConstraint, ACallMayComeInsteadOfTheAnswer) {
  AnswerConstraint answer = only_a({.reasoning = kThink, .call_marks = {{kCall, nullptr}}}, {5, 6});
  EXPECT_EQ(allowed_by(answer), sorted({id_of("a"), kThink.open, kCall}));
  answer.accept(kThink.open);
  answer.accept(kThink.close);
  EXPECT_EQ(allowed_by(answer), sorted({id_of("a"), kCall}));
  answer.accept(kCall);
  answer.accept(5000);
  EXPECT_TRUE(answer.mask().empty());
  EXPECT_FALSE(answer.complete());
}

TEST(AnswerConstraint, AStopTokenInsideReasoningClosesItWhileAnAnswerIsOwed) {
  AnswerConstraint answer = only_a({.reasoning = kThink, .stop_tokens = kStops}, {5, 100});
  EXPECT_EQ(answer.instead_of(7), 7);
  EXPECT_EQ(answer.instead_of(kStops[1]), kThink.close);
  answer.accept(kThink.close);
  EXPECT_EQ(allowed_by(answer), Ids{id_of("a")});
  EXPECT_EQ(answer.instead_of(kStops[1]), kStops[1]);
  const AnswerConstraint free(nullptr, demo_tokenizer()->vocab_size(),
                              {.reasoning = kThink, .stop_tokens = kStops}, Ids{5, 100});
  EXPECT_EQ(free.instead_of(kStops[1]), kStops[1]) << "nothing is owed";
}

TEST(AnswerConstraint, KnowsTheBordersOfReasoning) {
  const auto plain = Tokenizer::from_json(R"({"added_tokens": [],
    "decoder": {"type": "ByteLevel"},
    "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}})");
  EXPECT_FALSE(reasoning_tokens(*plain));
  const auto qwen = Tokenizer::from_json(R"({"added_tokens": [
    {"id": 1, "content": "<think>", "special": false},
    {"id": 2, "content": "</think>", "special": false}],
    "decoder": {"type": "ByteLevel"},
    "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}})");
  const auto tokens = reasoning_tokens(*qwen);
  ASSERT_TRUE(tokens);
  EXPECT_EQ(tokens->open, 1);
  EXPECT_EQ(tokens->close, 2);
}

}  // namespace
}  // namespace mlxr::testing
