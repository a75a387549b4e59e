// What the OpenAI endpoints read from request bodies, and how they refuse.
#include <gtest/gtest.h>

#include "daemon/server/http/api_error.h"
#include "daemon/server/openai/chat_request.h"
#include "daemon/server/openai/completion_request.h"

namespace mlxr::openai {
namespace {

ApiError refusal(const std::function<void()>& read) {
  try {
    read();
  } catch (const RequestError& error) {
    return error.error();
  }
  ADD_FAILURE() << "accepted";
  return {};
}

ApiError chat_refusal(const std::string& fields) {
  return refusal([&] {
    read_chat_request(R"({"messages":[{"role":"user","content":"hi"}])" +
                      (fields.empty() ? "" : "," + fields) + "}");
  });
}

ApiError completion_refusal(const std::string& body) {
  return refusal([&] { read_completion_request(body); });
}

ChatRequest chat(const std::string& fields) {
  return read_chat_request(R"({"messages":[{"role":"user","content":"hi"}],)" + fields + "}");
}

TEST(JsonBody, SyntaxErrorsSayWhere) {
  const ApiError error = refusal([] { parse_json_object("{\"a\": 1,\n \"b\" 2}"); });
  EXPECT_EQ(error.status, 400);
  EXPECT_EQ(error.code, "invalid_json");
  EXPECT_NE(error.message.find("line 2, column 6"), std::string::npos) << error.message;
}

TEST(JsonBody, RefusesWhatIsNoObject) {
  for (const char* body : {"", "  ", "[]", "3", "null", "{", "{\"a\":\"\xff\"}"}) {
    EXPECT_EQ(refusal([&] { parse_json_object(body); }).status, 400) << body;
  }
}

TEST(JsonBody, RefusesDeepNesting) {
  const std::string deep(100000, '[');
  EXPECT_NE(refusal([&] { parse_json_object("{\"a\":" + deep + "}"); }).message.find("nested"),
            std::string::npos);
  EXPECT_NO_THROW(parse_json_object("{\"a\":\"" + deep + "\\\"[\"}"));
}

TEST(JsonBody, ShortNumbersReadAsWritten) {
  EXPECT_EQ(to_text(short_number(0.7F)), "0.7");
  EXPECT_EQ(to_text(short_number(-1.5F)), "-1.5");
}

TEST(ChatRequest, ReadsEverySamplingField) {
  const ChatRequest request = chat(
      R"("temperature":0.5,"top_p":0.9,"top_k":7,"min_p":0.1,"typical_p":0.8,"repeat_penalty":1.1,
         "presence_penalty":0.2,"frequency_penalty":-0.3,"seed":-1,"repeat_last_n":9,
         "logit_bias":{"5":-100,"7":2.5})");
  SamplingParams params;
  apply_sampling(Fields(request.body), params);
  EXPECT_FLOAT_EQ(params.temperature, 0.5F);
  EXPECT_FLOAT_EQ(params.top_p, 0.9F);
  EXPECT_EQ(params.top_k, 7);
  EXPECT_FLOAT_EQ(params.min_p, 0.1F);
  EXPECT_FLOAT_EQ(params.typical_p, 0.8F);
  EXPECT_FLOAT_EQ(params.repeat_penalty, 1.1F);
  EXPECT_FLOAT_EQ(params.presence_penalty, 0.2F);
  EXPECT_FLOAT_EQ(params.frequency_penalty, -0.3F);
  EXPECT_EQ(params.penalty_last_n, 9);
  EXPECT_EQ(*params.seed, ~uint64_t{0});
  EXPECT_FLOAT_EQ(params.logit_bias.at(5), -100.0F);
  EXPECT_FLOAT_EQ(params.logit_bias.at(7), 2.5F);
}

TEST(ChatRequest, AbsentAndNullFieldsKeepTheModelsDefaults) {
  const ChatRequest request = chat(R"("temperature":null,"top_k":-1,"stop":null,"stream":null)");
  SamplingParams params;
  params.temperature = 0.33F;
  params.top_p = 0.44F;
  apply_sampling(Fields(request.body), params);
  EXPECT_FLOAT_EQ(params.temperature, 0.33F);
  EXPECT_FLOAT_EQ(params.top_p, 0.44F);
  EXPECT_EQ(params.top_k, 0);
  EXPECT_EQ(request.options.max_tokens, -1);
  EXPECT_FALSE(request.options.stream);
}

TEST(ChatRequest, ReadsOptions) {
  const ChatRequest request = chat(
      R"("model":"m","stream":true,"stream_options":{"include_usage":true},"n":2,
         "max_completion_tokens":9,"stop":["a","b"],"logprobs":true,"top_logprobs":3,
         "user":"me","metadata":{"x":1},"chat_template_kwargs":{"thinking":true})");
  EXPECT_EQ(request.options.model, "m");
  EXPECT_TRUE(request.options.stream);
  EXPECT_TRUE(request.options.include_usage);
  EXPECT_EQ(request.options.n, 2);
  EXPECT_EQ(request.options.max_tokens, 9);
  EXPECT_EQ(request.options.stop, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(request.n_logprobs, 3);
  EXPECT_EQ(request.template_variables["thinking"], true);
  EXPECT_EQ(chat(R"("stop":"x")").options.stop, std::vector<std::string>{"x"});
  EXPECT_EQ(chat(R"("logprobs":true)").n_logprobs, 0);
}

TEST(ChatRequest, NormalisesMessages) {
  const ChatRequest request = read_chat_request(R"({"messages":[
    {"role":"developer","content":"be kind"},
    {"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},
    {"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function",
      "function":{"name":"f","arguments":"{\"z\":1,\"a\":2}"}}]},
    {"role":"tool","tool_call_id":"c","content":"3"}]})");
  EXPECT_EQ(request.messages[0]["role"], "system");
  EXPECT_EQ(request.messages[1]["content"], "ab");
  EXPECT_EQ(request.messages[2]["content"], "");
  EXPECT_EQ(to_text(request.messages[2]["tool_calls"][0]["function"]["arguments"]),
            R"({"z":1,"a":2})");
  EXPECT_EQ(request.messages[3]["tool_call_id"], "c");
}

TEST(ChatRequest, ToolsArePassedUnlessChoiceIsNone) {
  const std::string tools = R"("tools":[{"type":"function","function":{"name":"f"}}])";
  EXPECT_EQ(chat(tools).tools.size(), 1U);
  EXPECT_TRUE(chat(tools + R"(,"tool_choice":"none")").tools.is_null());
  EXPECT_FALSE(chat(tools).forced_call);
  EXPECT_TRUE(chat(tools).parallel_calls);
  EXPECT_EQ(chat(tools + R"(,"tool_choice":"required")").forced_call, "");
  const std::string named = R"(,"tool_choice":{"type":"function","function":{"name":"f"}})";
  EXPECT_EQ(chat(tools + named).forced_call, "f");
  EXPECT_FALSE(chat(tools + R"(,"parallel_tool_calls":false)").parallel_calls);
  EXPECT_EQ(chat_refusal(tools + R"(,"tool_choice":"sometimes")").param, "tool_choice");
  EXPECT_EQ(chat_refusal(R"("tool_choice":"required")").param, "tool_choice");
  EXPECT_EQ(chat_refusal(tools + R"(,"tool_choice":{"function":{"name":"g"}})").param,
            "tool_choice");
  EXPECT_EQ(chat_refusal(R"("tools":[{"type":"function"}])").param, "tools[0]");
}

TEST(ChatRequest, ReasoningComesBackUnderAnyName) {
  for (const char* name : {"reasoning_content", "reasoning", "thinking"}) {
    const ChatRequest request = read_chat_request(
        R"({"messages":[{"role":"assistant","content":"a",")" + std::string(name) + R"(":"hm"}]})");
    EXPECT_EQ(request.messages[0]["reasoning_content"], "hm") << name;
  }
}

TEST(ChatRequest, WrongFieldsAreNamed) {
  const std::vector<std::pair<std::string, std::string>> cases{
      {R"("temperature":"hot")", "temperature"},
      {R"("temperature":2.5)", "temperature"},
      {R"("temperature":-1)", "temperature"},
      {R"("top_p":1.5)", "top_p"},
      {R"("top_k":1.5)", "top_k"},
      {R"("max_tokens":0)", "max_tokens"},
      {R"("max_tokens":99999999999)", "max_tokens"},
      {R"("seed":18446744073709551615)", "seed"},
      {R"("stream":"yes")", "stream"},
      {R"("stop":[1])", "stop[0]"},
      {R"("stop":"")", "stop"},
      {R"("stop":["1","2","3","4","5","6","7","8","9","a","b","c","d","e","f","g","h"])", "stop"},
      {R"("logit_bias":{"x":1})", "logit_bias"},
      {R"("logit_bias":{"1":"y"})", "logit_bias.1"},
      {R"("logit_bias":[])", "logit_bias"},
      {R"("n":0)", "n"},
      {R"("logprobs":3)", "logprobs"},
      {R"("top_logprobs":2)", "top_logprobs"},
      {R"("logprobs":true,"top_logprobs":99)", "top_logprobs"},
      {R"("stream_options":{"include_usage":1})", "stream_options.include_usage"},
      {R"("model":7)", "model"}};
  for (const auto& [fields, param] : cases) {
    const ApiError error = chat_refusal(fields);
    EXPECT_EQ(error.status, 400) << fields;
    EXPECT_EQ(error.param, param) << fields;
    EXPECT_EQ(error.type, "invalid_request_error");
  }
}

TEST(ChatRequest, UnsupportedFieldsThatWouldChangeTheAnswerAreRefused) {
  for (const char* fields : {R"("modalities":["audio"])", R"("audio":{"voice":"x"})",
                             R"("functions":[{"name":"f"}])", R"("min_tokens":5)"}) {
    EXPECT_EQ(chat_refusal(fields).code, "unsupported_parameter") << fields;
  }
  EXPECT_NO_THROW(chat(R"("response_format":{"type":"text"},"modalities":["text"],"audio":null,
                          "min_tokens":0,"functions":[])"));
}

TEST(ChatRequest, SamplingGoesByLlamaServersNames) {
  SamplingParams p;
  const Json body = Json::parse(R"({"temperature": 1.5, "dynatemp_range": 0.5,
    "dynatemp_exponent": 2, "top_k": -1, "top_n_sigma": -1, "xtc_probability": 0.5,
    "xtc_threshold": 0.2, "mirostat": 2, "mirostat_tau": 4, "mirostat_eta": 0.2,
    "repeat_last_n": -1, "dry_multiplier": 0.8, "dry_base": 2, "dry_allowed_length": 3,
    "dry_penalty_last_n": 100, "dry_sequence_breakers": ["!"]})");
  apply_sampling(Fields(body), p);
  EXPECT_EQ(p.dynatemp_range, 0.5F);
  EXPECT_EQ(p.dynatemp_exponent, 2);
  EXPECT_EQ(p.top_k, 0);
  EXPECT_EQ(p.top_n_sigma, 0);
  EXPECT_EQ(p.xtc_probability, 0.5F);
  EXPECT_EQ(p.xtc_threshold, 0.2F);
  EXPECT_EQ(p.mirostat, 2);
  EXPECT_EQ(p.mirostat_tau, 4);
  EXPECT_EQ(p.mirostat_eta, 0.2F);
  EXPECT_EQ(p.penalty_last_n, -1);
  EXPECT_EQ(p.dry_multiplier, 0.8F);
  EXPECT_EQ(p.dry_base, 2);
  EXPECT_EQ(p.dry_allowed_length, 3);
  EXPECT_EQ(p.dry_penalty_last_n, 100);
  EXPECT_EQ(p.dry_sequence_breakers, std::vector<std::string>{"!"});
  EXPECT_EQ(chat_refusal(R"("mirostat":3)").param, "mirostat");
  EXPECT_EQ(chat_refusal(R"("dry_sequence_breakers":[""])").param, "dry_sequence_breakers[0]");
}

TEST(ChatRequest, ReadsConstraints) {
  using Kind = ConstraintSpec::Kind;
  const auto read = [](const std::string& fields) { return chat(fields).options.constraint; };
  EXPECT_FALSE(read(R"("response_format":{"type":"text"})"));
  EXPECT_FALSE(read(R"("response_format":null,"grammar":"","guided_json":null)"));
  const auto strict = read(R"("response_format":{"type":"json_schema","json_schema":{
      "name":"a","strict":true,"schema":{"b":1,"a":2}}})");
  ASSERT_TRUE(strict);
  EXPECT_EQ(strict->spec, (ConstraintSpec{Kind::kJsonSchema, R"({"b":1,"a":2})", false}));
  EXPECT_EQ(strict->field, "response_format.json_schema.schema");
  EXPECT_TRUE(read(R"("response_format":{"type":"json_object","schema":{}})")->spec.lenient);
  EXPECT_EQ(read(R"("grammar":"root ::= \"a\"")")->spec.kind, Kind::kGbnf);
  EXPECT_EQ(read(R"("guided_grammar":"start: \"a\"")")->spec.kind, Kind::kLark);
  EXPECT_EQ(read(R"("structured_outputs":{"choice":["a","b\"c"]})")->spec,
            (ConstraintSpec{Kind::kLark, R"(start: "a" | "b\"c")"}));
  EXPECT_EQ(read(R"("guided_regex":"a+")")->spec, (ConstraintSpec{Kind::kRegex, "a+"}));
  EXPECT_EQ(chat_refusal(R"("regex":"a","guided_choice":["b"])").param, "guided_choice");
  EXPECT_EQ(chat_refusal(R"("guided_choice":["b",3])").param, "guided_choice[1]");
}

TEST(ChatRequest, WrongMessagesAreNamed) {
  const std::vector<std::pair<std::string, std::string>> cases{
      {R"({})", "messages"},
      {R"({"messages":[]})", "messages"},
      {R"({"messages":"hi"})", "messages"},
      {R"({"messages":["hi"]})", "messages[0]"},
      {R"({"messages":[{"content":"x"}]})", "messages[0].role"},
      {R"({"messages":[{"role":"robot","content":"x"}]})", "messages[0].role"},
      {R"({"messages":[{"role":"user"}]})", "messages[0].content"},
      {R"({"messages":[{"role":"user","content":3}]})", "messages[0].content"},
      {R"({"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}]})",
       "messages[0].content[0].type"},
      {R"({"messages":[{"role":"user","content":[{"type":"text"}]}]})",
       "messages[0].content[0].text"},
      {R"({"messages":[{"role":"assistant","tool_calls":[{"function":{}}]}]})",
       "messages[0].tool_calls[0].function.name"}};
  for (const auto& [body, param] : cases) {
    EXPECT_EQ(refusal([&, &text = body] { read_chat_request(text); }).param, param) << body;
  }
}

TEST(CompletionRequest, ReadsEveryPromptShape) {
  EXPECT_EQ(std::get<std::string>(read_completion_request(R"({"prompt":"a"})").prompts.at(0)), "a");
  EXPECT_EQ(read_completion_request(R"({"prompt":["a","b"]})").prompts.size(), 2U);
  const auto tokens = read_completion_request(R"({"prompt":[1,2,3]})").prompts;
  ASSERT_EQ(tokens.size(), 1U);
  EXPECT_EQ(std::get<std::vector<int32_t>>(tokens[0]), (std::vector<int32_t>{1, 2, 3}));
  EXPECT_EQ(read_completion_request(R"({"prompt":[[1],[2,3]]})").prompts.size(), 2U);
  EXPECT_EQ(read_completion_request(R"({"prompt":"a","logprobs":2})").n_logprobs, 2);
  EXPECT_EQ(read_completion_request(R"({"prompt":"a"})").n_logprobs, -1);
}

TEST(CompletionRequest, RefusesByName) {
  const std::vector<std::pair<std::string, std::string>> cases{
      {R"({})", "prompt"},
      {R"({"prompt":[]})", "prompt"},
      {R"({"prompt":[-1]})", "prompt"},
      {R"({"prompt":[1.5]})", "prompt"},
      {R"({"prompt":[4294967296]})", "prompt"},
      {R"({"prompt":{"a":1}})", "prompt"},
      {R"({"prompt":[["a"]]})", "prompt"},
      {R"({"prompt":"a","echo":true,"logprobs":0,"suffix":"b"})", "echo"},
      {R"({"prompt":"a","max_tokens":-1})", "max_tokens"},
      {R"({"prompt":[1],"suffix":"b"})", "suffix"},
      {R"({"prompt":["a",[1]],"suffix":"b"})", "suffix"},
      {R"({"prompt":[1,-2]})", "prompt"},
      {R"({"prompt":"a","best_of":2,"n":3})", "best_of"},
      {R"({"prompt":"a","best_of":3,"stream":true})", "best_of"},
      {R"({"prompt":"a","logprobs":true})", "logprobs"},
      {R"({"prompt":["a","b"],"n":100})", "prompt"}};
  for (const auto& [body, param] : cases) {
    EXPECT_EQ(completion_refusal(body).param, param) << body;
  }
}

TEST(CompletionRequest, ReadsWhatComesAfterTheAnswer) {
  EXPECT_EQ(read_completion_request(R"({"prompt":["a","b"],"suffix":"c"})").suffix, "c");
  EXPECT_EQ(read_completion_request(R"({"prompt":[1],"suffix":""})").suffix, "");
}

TEST(CompletionRequest, ReadsAdapters) {
  const auto adapters = [](const std::string& list) {
    return read_completion_request(R"({"prompt":"a","lora":)" + list + "}").options.adapters;
  };
  const auto two = *adapters(R"([{"id":1},{"name":"tone","scale":-0.5}])");
  ASSERT_EQ(two.size(), 2U);
  EXPECT_EQ(*two[0].id, 1);
  EXPECT_EQ(two[0].scale, 1);
  EXPECT_EQ(two[1].name, "tone");
  EXPECT_EQ(two[1].scale, -0.5F);
  EXPECT_TRUE(adapters("[]")->empty());  // none, whatever the defaults are
  EXPECT_FALSE(adapters("null"));
  for (const auto& [list, param] : std::vector<std::pair<std::string, std::string>>{
           {"1", "lora"},
           {"[1]", "lora[0]"},
           {"[{}]", "lora[0]"},
           {R"([{"id":0},{"id":-1}])", "lora[1].id"},
           {R"([{"name":3}])", "lora[0].name"},
           {R"([{"id":0,"scale":"much"}])", "lora[0].scale"},
           {R"([{"id":0,"scale":1e9}])", "lora[0].scale"}}) {
    EXPECT_EQ(completion_refusal(R"({"prompt":"a","lora":)" + list + "}").param, param) << list;
  }
}

TEST(RequestOptions, ShiftTheContextWhereTheyAreTold) {
  const auto options = [](const std::string& fields) {
    return read_completion_request(R"({"prompt":"a")" + fields + "}").options;
  };
  EXPECT_FALSE(options("").shift);
  EXPECT_FALSE(options("").shift_by_default);
  EXPECT_FALSE(options("").keep);
  EXPECT_FALSE(options(R"(,"context_shift":null,"n_keep":null)").shift);
  EXPECT_TRUE(*options(R"(,"context_shift":true)").shift);
  EXPECT_FALSE(*options(R"(,"context_shift":false)").shift);
  EXPECT_EQ(*options(R"(,"n_keep":-1)").keep, -1);
  EXPECT_EQ(*options(R"(,"n_keep":7)").keep, 7);
  EXPECT_EQ(completion_refusal(R"({"prompt":"a","context_shift":"yes"})").param, "context_shift");
  EXPECT_EQ(completion_refusal(R"({"prompt":"a","n_keep":-2})").param, "n_keep");
}

TEST(GenerateRequests, ChoicesOfOneSeedDiffer) {
  RequestOptions options;
  SamplingParams sampling;
  sampling.seed = 10;
  EXPECT_EQ(*to_generate_request(options, sampling, -1, {1}, 0).sampling.seed, 10U);
  EXPECT_EQ(*to_generate_request(options, sampling, -1, {1}, 3).sampling.seed, 13U);
}

TEST(TokenIds, OutsideTheVocabularyAreRefused) {
  SamplingParams sampling;
  sampling.logit_bias = {{3, 1.0F}};
  EXPECT_NO_THROW(check_token_ids(sampling, 4));
  EXPECT_EQ(refusal([&] { check_token_ids(sampling, 3); }).param, "logit_bias");
}

}  // namespace
}  // namespace mlxr::openai
