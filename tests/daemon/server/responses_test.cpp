// /v1/responses: reading requests, writing items and events, keeping answers.
#include <gtest/gtest.h>

#include "daemon/server/http/api_error.h"
#include "daemon/server/openai/response_format.h"
#include "daemon/server/openai/response_items.h"
#include "daemon/server/openai/response_request.h"
#include "daemon/server/openai/response_store.h"

namespace mlxr::openai {
namespace {

using Kind = ChatEvent::Kind;

Json nothing_earlier(const std::string&) { return Json::array(); }

ResponseRequest read(const std::string& fields) {
  return read_response_request("{" + fields + "}", nothing_earlier);
}

// The field that is blamed.
std::string refused(const std::string& fields) {
  try {
    read(fields);
  } catch (const RequestError& error) {
    EXPECT_EQ(error.error().status, 400);
    return error.error().param;
  }
  return "accepted";
}

TEST(ResponseRequest, ReadsTextAndOptions) {
  const auto request = read(R"("model":"m","input":"hi","instructions":"Be brief.","top_p":0.5,
      "max_output_tokens":7,"stream":true,"metadata":{"a":"b"},"store":false)");
  EXPECT_EQ(request.chat.messages, Json::parse(R"([{"role":"system","content":"Be brief."},
                            {"role":"user","content":"hi"}])"));
  EXPECT_EQ(request.chat.options.model, "m");
  EXPECT_EQ(request.chat.options.max_tokens, 7);
  EXPECT_TRUE(request.chat.options.stream);
  EXPECT_FALSE(request.store);
  EXPECT_EQ(request.shown["metadata"]["a"], "b");
  EXPECT_EQ(request.shown["instructions"], "Be brief.");
  EXPECT_EQ(request.shown["text"]["format"]["type"], "text");
}

TEST(ResponseRequest, WhatTheModelSaidInOneTurnIsOneMessage) {
  const auto request = read(R"("instructions":"I.","input":[
      {"role":"developer","content":"D."},
      {"role":"user","content":[{"type":"input_text","text":"a"},{"type":"input_text","text":"b"}]},
      {"type":"reasoning","id":"rs_1","summary":[],
       "content":[{"type":"reasoning_text","text":"hm"}]},
      {"type":"message","role":"assistant","content":[{"type":"output_text","text":"let me"}]},
      {"type":"function_call","call_id":"c1","name":"f","arguments":"{\"x\":1}"},
      {"type":"function_call","call_id":"c2","name":"g","arguments":"{}"},
      {"type":"function_call_output","call_id":"c2","output":"two"},
      {"type":"function_call_output","call_id":"c1","output":[{"type":"input_text","text":"one"}]},
      {"role":"assistant","content":"done"},{"role":"assistant","content":"really"}])");
  const Json& messages = request.chat.messages;
  ASSERT_EQ(messages.size(), 7U);
  EXPECT_EQ(messages[0]["content"], "I.\n\nD.");
  EXPECT_EQ(messages[1]["content"], "ab");
  EXPECT_EQ(messages[2]["content"], "let me");
  EXPECT_EQ(messages[2]["reasoning_content"], "hm");
  ASSERT_EQ(messages[2]["tool_calls"].size(), 2U);
  EXPECT_EQ(messages[2]["tool_calls"][0]["function"]["arguments"], Json({{"x", 1}}));
  EXPECT_EQ(messages[3]["name"], "g");
  EXPECT_EQ(messages[4]["content"], "one");
  EXPECT_EQ(messages[4]["tool_call_id"], "c1");
  EXPECT_EQ(messages[6]["content"], "really");
}

TEST(ResponseRequest, GoesOnFromEarlierItems) {
  const auto request = read_response_request(
      R"({"input":"and now?","previous_response_id":"resp_1","instructions":"New."})",
      [](const std::string& id) {
        EXPECT_EQ(id, "resp_1");
        return read_input_items(Json::parse(R"([{"role":"user","content":"hi"},
                                                {"role":"assistant","content":"hello"}])"));
      });
  ASSERT_EQ(request.chat.messages.size(), 4U);
  EXPECT_EQ(request.chat.messages[0]["content"], "New.");
  EXPECT_EQ(request.chat.messages[2]["content"], "hello");
  EXPECT_EQ(request.input.size(), 1U);
  EXPECT_EQ(request.conversation.size(), 3U);
}

TEST(ResponseRequest, TranslatesToolsAndTheirChoice) {
  const std::string tools = R"("input":"hi","tools":[
      {"type":"function","name":"f","parameters":{"type":"object","properties":{}},"strict":true},
      {"type":"function","name":"g"}])";
  const auto all = read(tools);
  ASSERT_EQ(all.chat.tools.size(), 2U);
  EXPECT_EQ(all.chat.tools[0]["function"]["strict"], true);
  EXPECT_EQ(all.shown["tools"][0]["name"], "f");
  EXPECT_EQ(read(tools + R"(,"tool_choice":{"type":"function","name":"g"})").chat.forced_call, "g");
  EXPECT_EQ(read(tools + R"(,"tool_choice":"required")").chat.forced_call, "");
  const auto some = read(tools + R"(,"tool_choice":{"type":"allowed_tools","mode":"required",
      "tools":[{"type":"function","name":"g"}]})");
  ASSERT_EQ(some.chat.tools.size(), 1U);
  EXPECT_EQ(some.chat.tools[0]["function"]["name"], "g");
  EXPECT_EQ(some.chat.forced_call, "");
}

TEST(ResponseRequest, TextFormatConstrainsAndIsBlamedByItsName) {
  const auto request = read(R"("input":"hi","text":{"format":{"type":"json_schema","name":"n",
      "schema":{"type":"object"},"strict":true}})");
  ASSERT_TRUE(request.chat.options.constraint.has_value());
  EXPECT_EQ(request.chat.options.constraint->field, "text.format.schema");
  EXPECT_TRUE(read(R"("input":"hi","text":{"format":{"type":"json_object"}})")
                  .chat.options.constraint.has_value());
  EXPECT_EQ(refused(R"("input":"hi","text":{"format":{"type":"json_schema"}})"),
            "text.format.schema");
  EXPECT_EQ(refused(R"("input":"hi","text":{"format":{"type":"xml"}})"), "text.format.type");
}

TEST(ResponseRequest, EffortReachesTheTemplate) {
  const Json low = read(R"("input":"hi","reasoning":{"effort":"minimal"})").chat.template_variables;
  EXPECT_EQ(low["reasoning_effort"], "low");
  EXPECT_EQ(low["enable_thinking"], true);
  EXPECT_EQ(read(R"("input":"hi","reasoning":{"effort":"none"})")
                .chat.template_variables["enable_thinking"],
            false);
}

TEST(ResponseRequest, RefusesByName) {
  EXPECT_EQ(refused(R"("model":"m")"), "input");
  EXPECT_EQ(refused(R"("input":[])"), "input");
  EXPECT_EQ(refused(R"("input":7)"), "input");
  EXPECT_EQ(refused(R"("input":[{"type":"reasoning"}])"), "input");
  EXPECT_EQ(refused(R"("input":[3])"), "input[0]");
  EXPECT_EQ(refused(R"("input":[{"role":"user"}])"), "input[0].content");
  EXPECT_EQ(refused(R"("input":[{"role":"robot","content":"a"}])"), "input[0].role");
  EXPECT_EQ(refused(R"("input":[{"role":"user","content":[{"type":"input_image"}]}])"),
            "input[0].content[0].type");
  EXPECT_EQ(refused(R"("input":[{"type":"web_search_call"}])"), "input[0].type");
  EXPECT_EQ(refused(R"("input":[{"type":"item_reference","id":"x"}])"), "input[0].type");
  EXPECT_EQ(refused(R"("input":"a","tools":[{"type":"web_search"}])"), "tools[0].type");
  EXPECT_EQ(refused(R"("input":"a","tools":[{"type":"function"}])"), "tools[0].name");
  EXPECT_EQ(refused(R"("input":"a","tool_choice":{"type":"file_search"})"), "tool_choice.type");
  EXPECT_EQ(refused(R"("input":"a","background":true)"), "background");
  EXPECT_EQ(refused(R"("input":"a","conversation":"c")"), "conversation");
  EXPECT_EQ(refused(R"("input":"a","prompt":{"id":"p"})"), "prompt");
  EXPECT_EQ(refused(R"("input":"a","truncation":"often")"), "truncation");
  EXPECT_EQ(refused(R"("input":"a","metadata":{"k":1})"), "metadata.k");
  EXPECT_EQ(refused(R"("input":"a","max_output_tokens":0)"), "max_output_tokens");
  EXPECT_EQ(refused(R"("input":"a","reasoning":{"effort":"huge"})"), "reasoning.effort");
}

AnswerPart part(Kind kind, const std::string& text, const std::string& id = "") {
  AnswerPart made;
  made.event.kind = kind;
  made.event.text = text;
  made.call_id = id;
  return made;
}

std::vector<Json> events_of(const std::string& bytes) {
  std::vector<Json> events;
  std::string name;
  std::istringstream lines(bytes);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("event: ")) {
      name = line.substr(7);
    } else if (line.starts_with("data: ")) {
      events.push_back(Json::parse(line.substr(6)));
      EXPECT_EQ(events.back()["type"], name);
      EXPECT_EQ(events.back()["sequence_number"], events.size() - 1);
    }
  }
  return events;
}

AnswerEnd end_of(FinishReason reason) {
  AnswerEnd end;
  end.reason = reason;
  return end;
}

std::string stream_of(AnswerFormat& format, std::vector<AnswerPart> parts, FinishReason reason) {
  std::string bytes = format.opening(1);
  for (AnswerPart& one : parts) {
    AnswerPiece piece;
    piece.parts.push_back(std::move(one));
    bytes += format.piece(piece);
  }
  bytes += format.finish(0, end_of(reason));
  return bytes += format.closing({5, 2, 7});
}

ResponseOptions options_of(std::vector<Json>* kept = nullptr) {
  ResponseOptions options;
  options.id = std::string("resp_1");
  options.model = std::string("m");
  options.shown = {{"metadata", {{"a", "b"}}}};
  if (kept != nullptr) {
    options.keep = [kept](const Json& response) { kept->push_back(response); };
  }
  return options;
}

TEST(ResponseFormat, EventsTellOfEachItemFromItsBeginningToItsEnd) {
  std::vector<Json> kept;
  const auto format = response_format(options_of(&kept));
  const std::vector<Json> events = events_of(stream_of(
      *format,
      {part(Kind::kReasoning, "h"), part(Kind::kReasoning, "m"), part(Kind::kText, "a"),
       part(Kind::kText, "b"), part(Kind::kCall, "f", "call_1"), part(Kind::kArguments, "{\"x\":"),
       part(Kind::kArguments, "1}"), part(Kind::kCallEnd, "")},
      FinishReason::kStop));
  std::string told;
  for (const Json& event : events) {
    told += event["type"].get<std::string>().substr(9) + " " +
            (event.contains("output_index") ? event["output_index"].dump() : "-") + "\n";
  }
  EXPECT_EQ(
      told,
      "created -\nin_progress -\n"
      "output_item.added 0\ncontent_part.added 0\nreasoning_text.delta 0\n"
      "reasoning_text.delta 0\nreasoning_text.done 0\ncontent_part.done 0\n"
      "output_item.done 0\n"
      "output_item.added 1\ncontent_part.added 1\noutput_text.delta 1\noutput_text.delta 1\n"
      "output_text.done 1\ncontent_part.done 1\noutput_item.done 1\n"
      "output_item.added 2\nfunction_call_arguments.delta 2\nfunction_call_arguments.delta 2\n"
      "function_call_arguments.done 2\noutput_item.done 2\n"
      "completed -\n");
  EXPECT_EQ(events[0]["response"]["status"], "in_progress");
  EXPECT_TRUE(events[0]["response"]["usage"].is_null());
  EXPECT_EQ(events[11]["item_id"], events[9]["item"]["id"]);
  EXPECT_EQ(events[19]["arguments"], "{\"x\":1}");
  const Json& whole = events.back()["response"];
  EXPECT_EQ(whole["id"], "resp_1");
  EXPECT_EQ(whole["status"], "completed");
  EXPECT_EQ(whole["metadata"]["a"], "b");
  ASSERT_EQ(whole["output"].size(), 3U);
  EXPECT_EQ(whole["output"][0]["content"][0]["text"], "hm");
  EXPECT_EQ(whole["output"][1], events[15]["item"]);
  EXPECT_EQ(whole["output"][1]["content"][0]["text"], "ab");
  EXPECT_EQ(whole["output"][2]["call_id"], "call_1");
  EXPECT_EQ(whole["usage"]["input_tokens"], 5);
  EXPECT_EQ(whole["usage"]["input_tokens_details"]["cached_tokens"], 2);
  EXPECT_EQ(whole["usage"]["output_tokens"], 7);
  EXPECT_EQ(whole["usage"]["total_tokens"], 12);
  ASSERT_EQ(kept.size(), 1U);
  EXPECT_EQ(kept[0], whole);
}

TEST(ResponseFormat, ACutAnswerIsIncompleteAndAnEmptyOneHasAMessage) {
  const auto format = response_format(options_of());
  const std::vector<Json> events = events_of(stream_of(*format, {}, FinishReason::kLength));
  EXPECT_EQ(events.back()["type"], "response.incomplete");
  const Json& whole = events.back()["response"];
  EXPECT_EQ(whole["incomplete_details"]["reason"], "max_output_tokens");
  ASSERT_EQ(whole["output"].size(), 1U);
  EXPECT_EQ(whole["output"][0]["status"], "incomplete");
  EXPECT_EQ(whole["output"][0]["content"][0]["text"], "");
}

TEST(ResponseFormat, AFailureEndsTheStreamAsOne) {
  const auto format = response_format(options_of());
  std::string bytes = format->opening(1);
  bytes += format->failure({503, "it ends", "server_error", "", ""});
  const std::vector<Json> events = events_of(bytes);
  EXPECT_EQ(events.back()["type"], "response.failed");
  EXPECT_EQ(events.back()["response"]["status"], "failed");
  EXPECT_EQ(events.back()["response"]["error"]["message"], "it ends");
}

TEST(ResponseFormat, WholeAnswer) {
  std::vector<Json> kept;
  const auto format = response_format(options_of(&kept));
  Answer answer;
  answer.text = "hello";
  answer.calls = {{"call_1", "f", "{}"}};
  const Json whole = format->whole({answer}, {1, 0, 1});
  EXPECT_EQ(whole["object"], "response");
  ASSERT_EQ(whole["output"].size(), 2U);
  EXPECT_EQ(whole["output"][0]["content"][0]["text"], "hello");
  EXPECT_EQ(whole["output"][1]["arguments"], "{}");
  EXPECT_EQ(kept.at(0), whole);
  // What was answered can be sent back as it is.
  EXPECT_EQ(messages_of_items("", read_input_items(whole["output"]))[0]["content"], "hello");
}

TEST(ResponseStore, ForgetsTheLeastRecentlyUsed) {
  ResponseStore store(10);
  store.put("", "a", {"1234", "", ""});
  store.put("", "b", {"12", "3", "4"});
  EXPECT_EQ(store.bytes(), 8);
  EXPECT_TRUE(store.find("", "a").has_value());
  store.put("", "c", {"1234", "", ""});
  EXPECT_TRUE(store.find("", "a").has_value());
  EXPECT_FALSE(store.find("", "b").has_value());
  EXPECT_EQ(store.find("", "c")->response, "1234");
  store.put("", "large", {std::string(11, 'x'), "", ""});
  EXPECT_FALSE(store.find("", "large").has_value());
  EXPECT_TRUE(store.find("", "c").has_value());
  store.put("", "c", {"1", "", ""});
  EXPECT_EQ(store.bytes(), 5);
}

TEST(ResponseStore, OwnersSeeTheirOwn) {
  ResponseStore store(100);
  store.put("alice", "a", {"hers", "", ""});
  EXPECT_FALSE(store.find("bob", "a").has_value());
  EXPECT_FALSE(store.find("", "a").has_value());
  EXPECT_FALSE(store.erase("bob", "a"));
  EXPECT_TRUE(store.erase("alice", "a"));
  EXPECT_FALSE(store.find("alice", "a").has_value());
  EXPECT_EQ(store.bytes(), 0);
  ResponseStore none(0);
  none.put("", "a", {"x", "", ""});
  EXPECT_FALSE(none.find("", "a").has_value());
}

}  // namespace
}  // namespace mlxr::openai
