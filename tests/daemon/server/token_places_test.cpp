// Which tokens the parts of an answer consist of.
#include "daemon/server/token_places.h"

#include <gtest/gtest.h>

#include "daemon/server/answer_builder.h"

namespace mlxr {
namespace {

using Kind = ChatEvent::Kind;

// An answer of these tokens that is told in as many events; texts of tokens joined, by part.
struct Told {
  std::string text, reasoning, calls;
};

std::string joined(const std::vector<GeneratedLogprob>& tokens) {
  std::string text;
  for (const GeneratedLogprob& token : tokens) {
    text += "[" + token.bytes + "]";
  }
  return text;
}

bool is_text(const std::string& bytes) {
  try {
    (void)Json(bytes).dump();
    return true;
  } catch (const Json::exception&) {
    return false;
  }
}

// `at_once`: tokens of one event. Text that would end inside a character comes with the next token.
Told tell(const AnswerRules& rules, const std::vector<std::string>& tokens, size_t at_once) {
  AnswerBuilder builder(rules, 0);
  Told streamed;
  GenerateEvent event;
  int64_t end = 0;
  std::string held;
  const auto take = [&] {
    const AnswerPiece piece = builder.take(event);
    for (const AnswerPart& part : piece.parts) {
      (part.event.kind == Kind::kText        ? streamed.text
       : part.event.kind == Kind::kReasoning ? streamed.reasoning
                                             : streamed.calls) += joined(part.logprobs);
    }
    event = {};
  };
  for (size_t i = 0; i < tokens.size(); ++i) {
    held += tokens[i];
    const bool whole = is_text(held);
    const int64_t begin = end;
    end += whole ? static_cast<int64_t>(held.size()) : 0;
    event.tokens.push_back(static_cast<int32_t>(i));
    event.logprobs.push_back({tokens[i], {}, begin, whole ? end : begin + 1});
    event.text += whole ? std::exchange(held, "") : "";
    if ((i + 1) % at_once == 0) {
      take();
    }
  }
  event.final = true;
  take();
  EXPECT_EQ(streamed.text, joined(builder.answer().text_logprobs));
  EXPECT_EQ(streamed.reasoning, joined(builder.answer().reasoning_logprobs));
  return streamed;
}

AnswerRules rules_of(ToolFormat tools, bool begins_in_reasoning = false) {
  AnswerRules rules;
  rules.place_tokens = true;
  rules.syntax.tools = tools;
  rules.syntax.tool_list = Json::parse(
      R"([{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}])");
  rules.syntax.reasoning = ReasoningTags{"<think>", "</think>"};
  rules.syntax.begins_in_reasoning = begins_in_reasoning;
  return rules;
}

void expect_told(const AnswerRules& rules, const std::vector<std::string>& tokens,
                 const std::string& text, const std::string& reasoning = "") {
  for (const size_t at_once : {1, 2, 3, 100}) {
    const Told told = tell(rules, tokens, at_once);
    EXPECT_EQ(told.text, text) << at_once;
    EXPECT_EQ(told.reasoning, reasoning) << at_once;
    EXPECT_EQ(told.calls, "");
  }
}

TEST(TokenPlaces, AllOfAPlainText) {
  expect_told(rules_of(ToolFormat::kNone), {"a", "b ", " c", "\n"}, "[a][b ][ c][\n]");
  expect_told(rules_of(ToolFormat::kHermes), {"a", "<", "<", "b>", " \n"}, "[a][<][<][b>][ \n]");
}

TEST(TokenPlaces, ReasoningAndItsMarksAreApart) {
  const AnswerRules rules = rules_of(ToolFormat::kHermes);
  expect_told(rules, {"<think>", "\n", "so", " so", "\n", "</think>", "\n\n", "the", " end"},
              "[the][ end]", "[so][ so]");
  expect_told(rules, {"<think>", "\n", "\n", "</think>", "so"}, "[so]");
  expect_told(rules_of(ToolFormat::kNone, true), {"so", "</think>", "\n", "<", "b>"}, "[<][b>]",
              "[so]");
  expect_told(rules_of(ToolFormat::kNone, true), {"<t", "</think>", "</", "b>"}, "[</][b>]",
              "[<t]");
  expect_told(rules_of(ToolFormat::kNone), {"<think>", "<t", "hin", "</think>", "<", "x"}, "[<][x]",
              "[<t][hin]");
}

TEST(TokenPlaces, ATokenOnABorderGoesWhereItsTextGoes) {
  const AnswerRules rules = rules_of(ToolFormat::kHermes);
  expect_told(rules, {"<think>so", " on.</think>", "\n\nthe", " end"}, "[\n\nthe][ end]",
              "[<think>so][ on.</think>]");
  expect_told(rules, {"<think>", "a</think>b", "c"}, "[a</think>b][c]", "[a</think>b]");
}

TEST(TokenPlaces, CallsHaveNone) {
  expect_told(rules_of(ToolFormat::kHermes),
              {"say", "\n", "<tool_call>", "\n{\"name\": ", "\"f\", \"arg", "uments\": {\"a\": 1",
               "}}", "\n", "</tool_call>"},
              "[say]");
  expect_told(rules_of(ToolFormat::kHermes),
              {"<tool_call>", "{\"name\": \"f\", \"arguments\": {}}", "</tool_call>", "\n", "</",
               "b> is", " it"},
              "[\n][</][b> is][ it]");
  AnswerRules forced = rules_of(ToolFormat::kHermes);
  forced.syntax.opening = "<tool_call>\n{\"name\": \"f\", \"arguments\":";
  expect_told(forced, {" {\"a\":", " \"", "x", "\"}", "}", "\n</tool_call>"}, "");
}

TEST(TokenPlaces, WhatIsNoCallAfterAllIsText) {
  expect_told(rules_of(ToolFormat::kHermes), {"a ", "<tool_call>", "no", " {", "b"},
              "[a ][<tool_call>][no][ {][b]");
  expect_told(rules_of(ToolFormat::kLlamaJson), {"{\"", "x\"", ": 1", "}", " b"},
              "[{\"][x\"][: 1][}][ b]");
}

TEST(TokenPlaces, ChannelsOfHarmony) {
  expect_told(rules_of(ToolFormat::kHarmony),
              {"<|channel|>", "analysis", "<|message|>", "so", " so", "<|end|>", "<|start|>",
               "assistant", "<|channel|>", "final", "<|message|>", "the", " end", "<|return|>"},
              "[the][ end]", "[so][ so]");
}

TEST(TokenPlaces, TokensOfOneCharacterStayTogether) {
  expect_told(rules_of(ToolFormat::kHermes),
              {"<think>", "\xe2", "\x80", "\x94", "</think>", "\xf0\x9f", "\xa6\x8a", "x"},
              "[\xf0\x9f][\xa6\x8a][x]", "[\xe2][\x80][\x94]");
}

TEST(TokenPlaces, NothingOfWhatWasNotToldOrShown) {
  const AnswerRules rules = rules_of(ToolFormat::kNone);
  AnswerBuilder builder(rules, 0);
  GenerateEvent event;
  event.text = "ab";  // "bc" was the beginning of a stop string, and <eot> is not shown
  event.logprobs = {{"a", {}, 0, 1}, {"<eot>", {}, 1, 1}, {"bc", {}, 1, 3}, {"d", {}, 3, 4}};
  event.tokens = {1, 2, 3, 4};
  event.final = true;
  EXPECT_EQ(joined(builder.take(event).parts.at(0).logprobs), "[a][bc]");
}

}  // namespace
}  // namespace mlxr
