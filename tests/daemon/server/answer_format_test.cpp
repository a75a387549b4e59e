// The JSON of answers: chunks, whole bodies, usage and log probabilities in both of OpenAI's
// shapes.
#include "daemon/server/openai/answer_format.h"

#include <gtest/gtest.h>

namespace mlxr::openai {
namespace {

GenerateEvent text_event(const std::string& text) {
  GenerateEvent event;
  event.text = text;
  return event;
}

GenerateEvent token_event(const std::string& bytes, float logprob) {
  GenerateEvent event = text_event(bytes);
  event.logprobs.push_back({bytes, {7, logprob, {}}});
  return event;
}

TEST(ChatFormat, StreamBeginsWithTheRoleAndEndsWithAnEmptyDelta) {
  const auto format = chat_format("m", false, nullptr);
  const std::vector<Json> opening = format->opening(2);
  ASSERT_EQ(opening.size(), 2U);
  EXPECT_EQ(opening[1]["choices"][0]["index"], 1);
  EXPECT_EQ(opening[0]["choices"][0]["delta"]["role"], "assistant");
  const Json piece = format->piece(0, text_event("hi"));
  EXPECT_EQ(piece["object"], "chat.completion.chunk");
  EXPECT_EQ(piece["model"], "m");
  EXPECT_EQ(piece["id"], opening[0]["id"]);
  EXPECT_EQ(piece["choices"][0]["delta"], Json({{"content", "hi"}}));
  EXPECT_TRUE(piece["choices"][0]["finish_reason"].is_null());
  const Json finish = format->finish(0, "stop");
  EXPECT_EQ(finish["choices"][0]["delta"], Json::object());
  EXPECT_EQ(finish["choices"][0]["finish_reason"], "stop");
}

TEST(ChatFormat, WholeAnswerAndUsage) {
  const auto format = chat_format("m", false, nullptr);
  const Json body = format->whole({{"one", {}, "stop"}, {"two", {}, "length"}}, {5, 2, 7});
  EXPECT_EQ(body["object"], "chat.completion");
  EXPECT_EQ(body["choices"][1]["message"]["content"], "two");
  EXPECT_EQ(body["choices"][1]["message"]["role"], "assistant");
  EXPECT_EQ(body["choices"][1]["finish_reason"], "length");
  EXPECT_TRUE(body["choices"][0]["logprobs"].is_null());
  EXPECT_EQ(body["usage"]["prompt_tokens"], 5);
  EXPECT_EQ(body["usage"]["completion_tokens"], 7);
  EXPECT_EQ(body["usage"]["total_tokens"], 12);
  EXPECT_EQ(body["usage"]["prompt_tokens_details"]["cached_tokens"], 2);
  const Json usage = format->usage_piece({5, 2, 7});
  EXPECT_EQ(usage["choices"], Json::array());
  EXPECT_EQ(usage["usage"], body["usage"]);
}

TEST(ChatFormat, LogprobsCarryBytes) {
  const auto format = chat_format("m", true, nullptr);
  const Json entry = format->piece(0, token_event("h\xc3\xa9", -0.5F))["choices"][0]["logprobs"];
  EXPECT_EQ(entry["content"][0]["token"], "h\xc3\xa9");
  EXPECT_EQ(entry["content"][0]["logprob"], -0.5);
  EXPECT_EQ(entry["content"][0]["bytes"], Json({104, 195, 169}));
  EXPECT_EQ(entry["content"][0]["top_logprobs"], Json::array());
}

TEST(TextFormat, OffsetsCountCharactersPerChoice) {
  const auto format = text_format("m", true, nullptr);
  EXPECT_TRUE(format->opening(2).empty());
  EXPECT_EQ(format->piece(0, token_event("\xc3\xa9!", -1))["choices"][0]["logprobs"]["text_offset"],
            Json({0}));
  EXPECT_EQ(format->piece(1, token_event("x", -1))["choices"][0]["logprobs"]["text_offset"],
            Json({0}));
  const Json second = format->piece(0, token_event("y", -0.25F))["choices"][0];
  EXPECT_EQ(second["text"], "y");
  EXPECT_EQ(second["logprobs"]["text_offset"], Json({2}));
  EXPECT_EQ(second["logprobs"]["tokens"], Json({"y"}));
  EXPECT_EQ(second["logprobs"]["token_logprobs"], Json({-0.25}));
  EXPECT_EQ(format->finish(0, "length")["choices"][0]["finish_reason"], "length");
}

TEST(TokenText, HalfCharactersAreSpelledOut) {
  EXPECT_EQ(token_text("ok"), "ok");
  EXPECT_EQ(token_text("\xe2\x80"), "bytes:\\xe2\\x80");
}

TEST(FinishName, IsOpenAis) {
  EXPECT_EQ(finish_name(FinishReason::kStop), "stop");
  EXPECT_EQ(finish_name(FinishReason::kLength), "length");
}

}  // namespace
}  // namespace mlxr::openai
