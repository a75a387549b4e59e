// How Ollama's and Anthropic's requests become the normal form.
#include <gtest/gtest.h>

#include "daemon/server/anthropic/request.h"
#include "daemon/server/http/api_error.h"
#include "daemon/server/ollama/options.h"
#include "daemon/server/ollama/requests.h"

namespace mlxr {
namespace {

std::string refused(const std::function<void()>& read) {
  try {
    read();
  } catch (const RequestError& error) {
    EXPECT_EQ(error.error().status, 400);
    return error.error().param;
  }
  ADD_FAILURE() << "accepted";
  return "";
}

ollama::ChatRequest ollama_chat(const std::string& fields) {
  return ollama::read_chat_request(R"({"model":"m","messages":[{"role":"user","content":"hi"}])" +
                                   fields + "}");
}

std::optional<int64_t> keep_alive(const std::string& value) {
  const Json body = Json::parse("{\"keep_alive\":" + value + "}");
  const auto time = ollama::read_keep_alive(Fields(body));
  return time ? std::optional(time->count()) : std::nullopt;
}

TEST(OllamaRequest, MapsOptions) {
  const auto request = ollama_chat(
      R"(,"options":{"num_predict":9,"temperature":0.5,"top_k":7,"stop":["x"],"seed":3,
          "repeat_last_n":8,"num_ctx":4096,"num_gpu":1,"use_mmap":true,"tfs_z":1})");
  EXPECT_EQ(request.chat.options.max_tokens, 9);
  EXPECT_EQ(request.chat.options.stop, std::vector<std::string>{"x"});
  EXPECT_TRUE(request.chat.options.stream);
  SamplingParams sampling;
  openai::apply_sampling(Fields(request.chat.body), sampling);
  EXPECT_FLOAT_EQ(sampling.temperature, 0.5F);
  EXPECT_EQ(sampling.top_k, 7);
  EXPECT_EQ(*sampling.seed, 3U);
  EXPECT_EQ(sampling.penalty_last_n, 8);
  EXPECT_EQ(ollama_chat(R"(,"options":{"num_predict":-1})").chat.options.max_tokens, -1);
}

void expect_scheduling(const openai::RequestOptions& options) {
  EXPECT_EQ(options.priority, -3);
  EXPECT_EQ(options.timeout, std::chrono::milliseconds(1500));
  EXPECT_EQ(options.cache_salt, "salt");
  ASSERT_TRUE(options.adapters && options.adapters->size() == 1);
  EXPECT_EQ(options.adapters->front().name, "tone");
  EXPECT_FLOAT_EQ(options.adapters->front().scale, 0.5F);
}

TEST(Scheduling, ComesFromEveryApisBody) {
  const std::string fields = R"(,"priority":3,"timeout":1.5,"cache_salt":"salt",
      "lora":[{"name":"tone","scale":0.5}])";
  const std::string messages = R"("messages":[{"role":"user","content":"hi"}])";
  expect_scheduling(ollama_chat(fields).chat.options);
  expect_scheduling(ollama::read_generate_request(R"({"model":"m","prompt":"a")" + fields + "}")
                        .base.chat.options);
  expect_scheduling(anthropic::read_messages_request(
                        R"({"model":"m","max_tokens":1,)" + messages + fields + "}", false)
                        .chat.options);
  expect_scheduling(openai::to_chat_request(Json::parse("{" + messages + fields + "}")).options);
  EXPECT_EQ(refused([] { ollama_chat(R"(,"timeout":"soon")"); }), "timeout");
  EXPECT_EQ(refused([] { ollama_chat(R"(,"timeout":0)"); }), "timeout");
}

TEST(OllamaRequest, ShiftsUnlessToldOtherwise) {
  const openai::RequestOptions plain = ollama_chat("").chat.options;
  EXPECT_TRUE(plain.shift_by_default);
  EXPECT_FALSE(plain.shift) << "a model's settings may say otherwise";
  EXPECT_FALSE(plain.keep);
  EXPECT_FALSE(*ollama_chat(R"(,"shift":false)").chat.options.shift);
  EXPECT_TRUE(*ollama_chat(R"(,"shift":true)").chat.options.shift);
  EXPECT_EQ(*ollama_chat(R"(,"options":{"num_keep":24})").chat.options.keep, 24);
  // -2 fills the window, -1 goes on.
  EXPECT_FALSE(*ollama_chat(R"(,"options":{"num_predict":-2})").chat.options.shift);
  EXPECT_TRUE(*ollama_chat(R"(,"shift":true,"options":{"num_predict":-2})").chat.options.shift);
  EXPECT_FALSE(ollama_chat(R"(,"options":{"num_predict":-1})").chat.options.shift);
  EXPECT_EQ(refused([] { ollama_chat(R"(,"shift":"on")"); }), "shift");
  EXPECT_EQ(refused([] { ollama_chat(R"(,"options":{"num_keep":"all"})"); }), "n_keep");
  EXPECT_TRUE(ollama::read_generate_request(R"({"model":"m","prompt":"a"})")
                  .base.chat.options.shift_by_default);
}

TEST(AnthropicRequest, ShiftsWhereItIsTold) {
  const auto options = [](const std::string& fields) {
    return anthropic::read_messages_request(
               R"({"model":"m","max_tokens":5,"messages":[{"role":"user","content":"hi"}])" +
                   fields + "}",
               false)
        .chat.options;
  };
  EXPECT_FALSE(options("").shift);
  EXPECT_FALSE(options("").shift_by_default);
  EXPECT_TRUE(*options(R"(,"context_shift":true,"n_keep":3)").shift);
  EXPECT_EQ(*options(R"(,"context_shift":true,"n_keep":3)").keep, 3);
}

TEST(OllamaRequest, RefusesOptionsByName) {
  for (const auto& [options, name] : std::vector<std::pair<std::string, std::string>>{
           {R"({"tfs_z":0.5})", "options.tfs_z"},
           {R"({"penalize_newline":1})", "options.penalize_newline"},
           {R"({"num_ctx":"big"})", "options.num_ctx"},
           {R"({"wings":2})", "options.wings"}}) {
    EXPECT_EQ(refused([&, &text = options] { ollama_chat(",\"options\":" + text); }), name);
  }
  EXPECT_EQ(refused([] { ollama_chat(R"(,"think":"maybe")"); }), "think");
  EXPECT_EQ(refused([] { ollama_chat(R"(,"format":"xml")"); }), "format");
  EXPECT_EQ(refused([] { ollama::read_chat_request(R"({"messages":[]})"); }), "model");
}

TEST(OllamaRequest, KeepAliveIsSecondsOrADuration) {
  EXPECT_EQ(keep_alive("30"), 30000);
  EXPECT_EQ(keep_alive("0"), 0);
  EXPECT_EQ(keep_alive("\"5m\""), 300000);
  EXPECT_EQ(keep_alive("\"1h30m\""), 5400000);
  EXPECT_EQ(keep_alive("\"250ms\""), 250);
  EXPECT_LT(*keep_alive("-1"), 0);
  EXPECT_LT(*keep_alive("\"-1m\""), 0);
  EXPECT_EQ(keep_alive("null"), std::nullopt);
  for (const char* wrong : {"\"soon\"", "\"5x\"", "\"\"", "true", "\"1h3\""}) {
    EXPECT_EQ(refused([&] { keep_alive(wrong); }), "keep_alive") << wrong;
  }
}

TEST(OllamaRequest, NamesAndLoads) {
  EXPECT_TRUE(ollama::read_chat_request(R"({"model":"m","messages":[]})").loads_only);
  EXPECT_TRUE(ollama::read_generate_request(R"({"model":"m"})").base.loads_only);
  EXPECT_FALSE(ollama::read_generate_request(R"({"model":"m","suffix":"x"})").base.loads_only);
}

TEST(OllamaRequest, ThinkReachesTheTemplate) {
  EXPECT_EQ(ollama_chat(R"(,"think":false)").chat.template_variables["enable_thinking"], false);
  const auto high = ollama_chat(R"(,"think":"high")");
  EXPECT_EQ(high.chat.template_variables["reasoning_effort"], "high");
  EXPECT_TRUE(*high.think);
}

anthropic::MessagesRequest messages(const std::string& fields) {
  return anthropic::read_messages_request(R"({"model":"m","max_tokens":5,)" + fields + "}", false);
}

TEST(AnthropicRequest, TranslatesBlocks) {
  const auto request = messages(R"("system":[
      {"type":"text","text":"x-anthropic-billing-header: cch=1;"},{"type":"text","text":"Be kind"}],
    "messages":[{"role":"user","content":"hi"},
      {"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":""},
        {"type":"text","text":"a"},{"type":"tool_use","id":"t","name":"f","input":{"x":1}}]},
      {"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":
        [{"type":"text","text":"3"}]},{"type":"text","text":"go on"}]}],
    "tools":[{"name":"f","description":"d","input_schema":{"type":"object"}}],
    "tool_choice":{"type":"any","disable_parallel_tool_use":true},"stop_sequences":["x"],"top_k":4)");
  const Json& turns = request.chat.messages;
  ASSERT_EQ(turns.size(), 5U);
  EXPECT_EQ(turns[0], Json({{"role", "system"}, {"content", "Be kind"}}));
  EXPECT_EQ(turns[2]["reasoning_content"], "hm");
  EXPECT_EQ(turns[2]["tool_calls"][0]["function"]["arguments"], Json({{"x", 1}}));
  EXPECT_EQ(turns[3]["role"], "tool");
  EXPECT_EQ(turns[3]["content"], "3");
  EXPECT_EQ(turns[4]["content"], "go on");
  EXPECT_EQ(request.chat.tools[0]["function"]["parameters"], Json({{"type", "object"}}));
  EXPECT_EQ(request.chat.forced_call, "");
  EXPECT_FALSE(request.chat.parallel_calls);
  EXPECT_EQ(request.chat.options.stop, std::vector<std::string>{"x"});
  EXPECT_EQ(request.chat.options.max_tokens, 5);
}

TEST(AnthropicRequest, TheBillingLineIsDroppedFromAStringToo) {
  const auto request = messages(
      R"("system":"x-anthropic-billing-header: a\nBe kind","messages":[{"role":"user","content":"a"}])");
  EXPECT_EQ(request.chat.messages[0]["content"], "Be kind");
}

TEST(AnthropicRequest, WrongFieldsAreNamed) {
  const std::string hi = R"("messages":[{"role":"user","content":"hi"}])";
  for (const auto& [fields, name] : std::vector<std::pair<std::string, std::string>>{
           {R"("messages":[])", "messages"},
           {R"("messages":[{"role":"system","content":"x"}])", "messages.0.role"},
           {R"("messages":[{"role":"user"}])", "messages.0.content"},
           {R"("messages":[{"role":"user","content":[{"type":"image"}]}])",
            "messages.0.content.0.type"},
           {hi + R"(,"tools":[{"type":"web_search_20250305","name":"w"}])", "tools.0.type"},
           {hi + R"(,"tool_choice":{"type":"x"})", "tool_choice.type"},
           {hi + R"(,"thinking":{"type":"x"})", "thinking.type"},
           {hi + R"(,"temperature":"hot")", "temperature"}}) {
    EXPECT_EQ(refused([&, &text = fields] { messages(text); }), name) << fields;
  }
  EXPECT_EQ(
      refused([&] { anthropic::read_messages_request("{\"model\":\"m\"," + hi + "}", false); }),
      "max_tokens");
  EXPECT_NO_THROW(anthropic::read_messages_request("{\"model\":\"m\"," + hi + "}", true));
}

}  // namespace
}  // namespace mlxr
