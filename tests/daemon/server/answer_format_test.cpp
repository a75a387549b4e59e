// What answers look like on the wire, in the shapes of all three APIs.
#include "daemon/server/openai/answer_format.h"

#include <gtest/gtest.h>

#include "daemon/server/answer_builder.h"
#include "daemon/server/anthropic/answer_format.h"
#include "daemon/server/ollama/answer_format.h"

namespace mlxr {
namespace {

using Kind = ChatEvent::Kind;

AnswerPart part(Kind kind, const std::string& text, const std::string& id = "") {
  AnswerPart made;
  made.event.kind = kind;
  made.event.text = text;
  made.call_id = id;
  return made;
}

template <typename... Parts>
AnswerPiece piece_of(Parts... parts) {
  AnswerPiece piece;
  (piece.parts.push_back(std::move(parts)), ...);
  return piece;
}
AnswerPiece text_piece(const std::string& text) { return piece_of(part(Kind::kText, text)); }

AnswerPiece token_piece(const std::string& bytes, float logprob) {
  AnswerPiece piece = text_piece(bytes);
  piece.logprobs.push_back({bytes, {7, logprob, {}}});
  piece.parts.back().logprobs = piece.logprobs;
  return piece;
}

// A call of f in two fragments.
AnswerPiece call_piece() {
  return piece_of(part(Kind::kCall, "f", "id1"), part(Kind::kArguments, "{\"a\":"),
                  part(Kind::kArguments, "1}"), part(Kind::kCallEnd, ""));
}

AnswerEnd end_of(FinishReason reason, int calls = 0) {
  AnswerEnd end;
  end.reason = reason;
  end.calls = calls;
  end.usage = {.prompt_tokens = 5,
               .cached_tokens = 2,
               .generated_tokens = 7,
               .queue_seconds = 0,
               .prefill_seconds = 0.5,
               .decode_seconds = 0.25};
  return end;
}

Answer answer_of(const std::string& text, FinishReason reason) {
  Answer answer;
  answer.text = text;
  answer.end = end_of(reason);
  return answer;
}

// The JSON of each "data:" line, or of each line of NDJSON.
std::vector<Json> read(const std::string& bytes) {
  std::vector<Json> values;
  size_t begin = 0;
  while (begin < bytes.size()) {
    const size_t end = std::min(bytes.find('\n', begin), bytes.size());
    std::string line = bytes.substr(begin, end - begin);
    if (line.starts_with("data: ")) {
      line.erase(0, 6);
    }
    if (line.starts_with('{')) {
      values.push_back(Json::parse(line));
    }
    begin = end + 1;
  }
  return values;
}

TEST(ChatFormat, StreamBeginsWithTheRoleAndEndsWithAnEmptyDelta) {
  const auto format = openai::chat_format({"m"});
  const std::vector<Json> opening = read(format->opening(2));
  ASSERT_EQ(opening.size(), 2U);
  EXPECT_EQ(opening[1]["choices"][0]["index"], 1);
  EXPECT_EQ(opening[0]["choices"][0]["delta"]["role"], "assistant");
  const Json piece = read(format->piece(text_piece("hi"))).at(0);
  EXPECT_EQ(piece["object"], "chat.completion.chunk");
  EXPECT_EQ(piece["model"], "m");
  EXPECT_EQ(piece["id"], opening[0]["id"]);
  EXPECT_EQ(piece["choices"][0]["delta"], Json({{"content", "hi"}}));
  EXPECT_TRUE(piece["choices"][0]["finish_reason"].is_null());
  const Json finish = read(format->finish(0, end_of(FinishReason::kStop))).at(0);
  EXPECT_EQ(finish["choices"][0]["delta"], Json::object());
  EXPECT_EQ(finish["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(format->closing({}), "data: [DONE]\n\n");
}

TEST(ChatFormat, WholeAnswerAndUsage) {
  const auto format = openai::chat_format({"m", false, true});
  const Json body = format->whole(
      {answer_of("one", FinishReason::kStop), answer_of("two", FinishReason::kLength)},
      {5, 2, 7, 3});
  EXPECT_EQ(body["object"], "chat.completion");
  EXPECT_EQ(body["choices"][1]["message"]["content"], "two");
  EXPECT_EQ(body["choices"][1]["message"]["role"], "assistant");
  EXPECT_EQ(body["choices"][1]["finish_reason"], "length");
  EXPECT_TRUE(body["choices"][0]["logprobs"].is_null());
  EXPECT_EQ(body["usage"]["prompt_tokens"], 5);
  EXPECT_EQ(body["usage"]["completion_tokens"], 7);
  EXPECT_EQ(body["usage"]["total_tokens"], 12);
  EXPECT_EQ(body["usage"]["prompt_tokens_details"]["cached_tokens"], 2);
  EXPECT_EQ(body["usage"]["completion_tokens_details"]["reasoning_tokens"], 3);
  const Json usage = read(format->closing({5, 2, 7, 3})).at(0);
  EXPECT_EQ(usage["choices"], Json::array());
  EXPECT_EQ(usage["usage"], body["usage"]);
}

TEST(ChatFormat, CallsComeAsAHeadAndFragments) {
  const auto format = openai::chat_format({"m"});
  const std::vector<Json> chunks = read(format->piece(call_piece()));
  ASSERT_EQ(chunks.size(), 3U);
  const Json head = chunks[0]["choices"][0]["delta"]["tool_calls"][0];
  EXPECT_EQ(to_text(head), R"({"index":0,"id":"id1","type":"function",)"
                           R"("function":{"name":"f","arguments":""}})");
  const Json fragment = chunks[1]["choices"][0]["delta"]["tool_calls"][0];
  EXPECT_EQ(to_text(fragment), R"({"index":0,"function":{"arguments":"{\"a\":"}})");
  const Json called = read(format->finish(0, end_of(FinishReason::kStop, 1))).at(0);
  EXPECT_EQ(called["choices"][0]["finish_reason"], "tool_calls");
  const Json cut = read(format->finish(0, end_of(FinishReason::kLength, 1))).at(0);
  EXPECT_EQ(cut["choices"][0]["finish_reason"], "length");
}

TEST(ChatFormat, ReasoningHasBothNames) {
  const auto format = openai::chat_format({"m"});
  const auto chunks = read(format->piece(piece_of(part(Kind::kReasoning, "hm"))));
  EXPECT_EQ(chunks.at(0)["choices"][0]["delta"],
            Json({{"reasoning_content", "hm"}, {"reasoning", "hm"}}));
}

TEST(ChatFormat, LogprobsCarryBytes) {
  const auto format = openai::chat_format({"m", true});
  const Json entry =
      read(format->piece(token_piece("h\xc3\xa9", -0.5F))).at(0)["choices"][0]["logprobs"];
  EXPECT_EQ(entry["content"][0]["token"], "h\xc3\xa9");
  EXPECT_EQ(entry["content"][0]["logprob"], -0.5);
  EXPECT_EQ(entry["content"][0]["bytes"], Json({104, 195, 169}));
}

TEST(TextFormat, OffsetsCountCharactersPerChoice) {
  const auto format = openai::text_format({"m", true});
  EXPECT_EQ(format->opening(2), "");
  const auto choice_of = [&](AnswerPiece piece, int choice) {
    piece.choice = choice;
    return read(format->piece(piece)).at(0)["choices"][0];
  };
  EXPECT_EQ(choice_of(token_piece("\xc3\xa9!", -1), 0)["logprobs"]["text_offset"], Json({0}));
  EXPECT_EQ(choice_of(token_piece("x", -1), 1)["logprobs"]["text_offset"], Json({0}));
  const Json second = choice_of(token_piece("y", -0.25F), 0);
  EXPECT_EQ(second["text"], "y");
  EXPECT_EQ(second["logprobs"]["text_offset"], Json({2}));
  EXPECT_EQ(second["logprobs"]["tokens"], Json({"y"}));
  EXPECT_EQ(second["logprobs"]["token_logprobs"], Json({-0.25}));
  const Json last = read(format->finish(0, end_of(FinishReason::kLength))).at(0);
  EXPECT_EQ(last["choices"][0]["finish_reason"], "length");
}

TEST(TokenText, WritesBytesThatAreNoTextAsOpenAiDoes) {
  EXPECT_EQ(openai::token_text("abc"), "abc");
  EXPECT_EQ(openai::token_text("\xe2\x80"), "bytes:\\xe2\\x80");
}

TEST(OllamaFormat, LinesEndWithTimes) {
  ollama::FormatOptions options;
  options.model = "m:latest";
  options.prompt = {1, 2};
  const auto format = ollama::generate_format(options);
  EXPECT_EQ(read(format->piece(text_piece("hi"))).at(0)["response"], "hi");
  AnswerEnd end = end_of(FinishReason::kLength);
  end.tokens = {3};
  const Json last = read(format->finish(0, end)).at(0);
  EXPECT_EQ(last["done"], true);
  EXPECT_EQ(last["done_reason"], "length");
  EXPECT_EQ(last["context"], Json({1, 2, 3}));
  EXPECT_EQ(last["prompt_eval_count"], 5);
  EXPECT_EQ(last["prompt_eval_duration"], 500000000);
  EXPECT_EQ(last["eval_count"], 7);
  EXPECT_EQ(last["eval_duration"], 250000000);
  EXPECT_GE(last["total_duration"].get<int64_t>(), 0);
  EXPECT_EQ(last["load_duration"], 0);
}

TEST(OllamaFormat, CallsAreWholeAndTheirArgumentsAnObject) {
  const auto format = ollama::chat_format({});
  const std::vector<Json> lines = read(format->piece(call_piece()));
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_EQ(lines[0]["message"]["tool_calls"][0]["function"]["arguments"], Json({{"a", 1}}));
  EXPECT_EQ(read(format->ping()).at(0)["message"]["content"], "");
  EXPECT_EQ(ollama::error_body({400, "bad", "", "", ""}), Json({{"error", "bad"}}));
}

TEST(AnthropicFormat, BlocksFollowEachOther) {
  const auto format = anthropic::message_format({"m", 5, true});
  std::string bytes = format->opening(1);
  bytes += format->piece(piece_of(part(Kind::kReasoning, "hm"), part(Kind::kText, "a")));
  bytes += format->piece(text_piece("b"));
  bytes += format->piece(call_piece());
  bytes += format->finish(0, end_of(FinishReason::kStop, 1)) + format->closing({});
  std::vector<std::string> kinds;
  for (const Json& event : read(bytes)) {
    std::string kind = event["type"];
    if (event.contains("index")) {
      kind += event["index"].dump();
    }
    if (event.contains("delta") && event["delta"].contains("type")) {
      kind += event["delta"]["type"];
    }
    kinds.push_back(kind);
    EXPECT_NE(bytes.find("event: " + event["type"].get<std::string>() + "\n"), std::string::npos);
  }
  EXPECT_EQ(kinds,
            (std::vector<std::string>{
                "message_start", "content_block_start0", "content_block_delta0thinking_delta",
                "content_block_delta0signature_delta", "content_block_stop0",
                "content_block_start1", "content_block_delta1text_delta",
                "content_block_delta1text_delta", "content_block_stop1", "content_block_start2",
                "content_block_delta2input_json_delta", "content_block_delta2input_json_delta",
                "content_block_stop2", "message_delta", "message_stop"}));
  const Json delta = read(bytes)[13];
  EXPECT_EQ(delta["delta"]["stop_reason"], "tool_use");
  EXPECT_EQ(delta["usage"]["input_tokens"], 3);
  EXPECT_EQ(delta["usage"]["cache_read_input_tokens"], 2);
  EXPECT_EQ(delta["usage"]["output_tokens"], 7);
}

TEST(AnthropicFormat, AnEmptyAnswerHasABlock) {
  const auto format = anthropic::message_format({"m", 5, true});
  const std::vector<Json> events = read(format->finish(0, end_of(FinishReason::kLength)));
  ASSERT_EQ(events.size(), 3U);
  EXPECT_EQ(events[0]["content_block"], Json({{"type", "text"}, {"text", ""}}));
  EXPECT_EQ(events[2]["delta"]["stop_reason"], "max_tokens");
  EXPECT_EQ(anthropic::error_body({404, "no", "", "", ""}, "req_1")["error"]["type"],
            "not_found_error");
}

GenerateEvent text_event(const std::string& text, std::vector<int32_t> tokens, bool final) {
  GenerateEvent event;
  event.text = text;
  event.tokens = std::move(tokens);
  event.final = final;
  return event;
}

TEST(AnswerBuilder, DropsLaterCallsWhenOneIsAllowed) {
  AnswerRules rules;
  rules.syntax.tools = ToolFormat::kHermes;
  rules.syntax.tool_list = Json::array({{{"type", "function"}, {"function", {{"name", "f"}}}}});
  rules.one_call = true;
  AnswerBuilder builder(rules, 0);
  GenerateEvent event = text_event(
      R"(<tool_call>{"name":"f"}</tool_call><tool_call>{"name":"f"}</tool_call>)", {1}, true);
  builder.take(event);
  ASSERT_EQ(builder.answer().calls.size(), 1U);
  EXPECT_EQ(builder.answer().calls[0].arguments, "{}");
  EXPECT_TRUE(builder.answer().calls[0].id.starts_with("call_"));
  EXPECT_EQ(builder.answer().end.calls, 1);
}

TEST(AnswerBuilder, AForcedCallBeginsInThePrompt) {
  AnswerRules rules;
  rules.syntax.tools = ToolFormat::kHermes;
  rules.syntax.tool_list = Json::array({{{"type", "function"}, {"function", {{"name", "f"}}}}});
  rules.syntax.opening = call_opening(ToolFormat::kHermes, "f");
  AnswerBuilder builder(rules, 0);
  GenerateEvent first = text_event(" {\"a\": 1", {1}, false), last = text_event("}}", {2}, true);
  builder.take(first);
  builder.take(last);
  EXPECT_EQ(builder.answer().calls.at(0).arguments, R"({"a":1})");
  EXPECT_EQ(builder.answer().text, "");
}

}  // namespace
}  // namespace mlxr
