// gRPC without a socket: request messages become the normal form that REST's bodies have, failures
// become statuses, answers become messages.
#include <google/rpc/status.pb.h>
#include <grpcpp/support/status.h>
#include <gtest/gtest.h>
#include <mlxr/v1/inference.pb.h>

#include "daemon/server/grpc/answer_stream.h"
#include "daemon/server/grpc/grpc_server.h"
#include "daemon/server/grpc/normal_form.h"
#include "daemon/server/grpc/status.h"

namespace mlxr::rpc {
namespace {

using google::protobuf::FieldDescriptor;

v1::ChatRequest hello() {
  v1::ChatRequest request;
  v1::ChatMessage& message = *request.add_messages();
  message.set_role(v1::ROLE_USER);
  message.set_content("Hello");
  return request;
}

std::string blamed_field(const v1::ChatRequest& request) {
  try {
    to_chat_request(request);
  } catch (const RequestError& error) {
    return request_field(error.error().param);
  }
  return "";
}

TEST(GrpcNormalForm, ChatsAreOpenAis) {
  v1::ChatRequest message = hello();
  message.set_model("m");
  v1::ChatMessage& called = *message.add_messages();
  called.set_role(v1::ROLE_ASSISTANT);
  v1::ToolCall& call = *called.add_tool_calls();
  call.set_id("call_1");
  call.set_name("f");
  call.set_arguments(R"({"z": 1, "a": 2})");
  v1::Tool& tool = *message.add_tools();
  tool.set_name("f");
  tool.set_description("Does it");
  tool.set_parameters(R"({"type": "object", "a": 1})");
  message.mutable_tool_choice()->set_name("f");
  message.set_template_variables(R"({"enable_thinking": false})");
  message.mutable_options()->set_max_tokens(5);
  message.mutable_options()->add_stop("end");
  message.mutable_options()->set_logprobs(2);
  message.mutable_options()->set_priority(3);
  message.mutable_sampling()->set_seed(int64_t{1} << 60);
  const openai::ChatRequest request = to_chat_request(message);

  const openai::ChatRequest rest = openai::read_chat_request(R"({"model": "m", "messages": [
      {"role": "user", "content": "Hello"},
      {"role": "assistant", "content": "", "tool_calls": [{"id": "call_1", "type": "function",
        "function": {"name": "f", "arguments": "{\"z\": 1, \"a\": 2}"}}]}],
      "tools": [{"type": "function", "function": {"name": "f", "description": "Does it",
        "parameters": {"type": "object", "a": 1}}}]})");
  EXPECT_EQ(request.messages.dump(), rest.messages.dump());
  EXPECT_EQ(request.tools.dump(), rest.tools.dump());
  EXPECT_EQ(request.forced_call, "f");
  EXPECT_EQ(request.template_variables.dump(), R"({"enable_thinking":false})");
  EXPECT_EQ(request.options.model, "m");
  EXPECT_TRUE(request.options.stream);
  EXPECT_EQ(request.options.max_tokens, 5);
  EXPECT_EQ(request.options.stop, std::vector<std::string>{"end"});
  EXPECT_EQ(request.options.priority, 3);
  EXPECT_EQ(request.n_logprobs, 2);
  SamplingParams sampling;
  openai::apply_sampling(Fields(request.body), sampling);
  EXPECT_EQ(sampling.seed, uint64_t{1} << 60);
}

// A field that nothing reads would be ignored in silence: a value that is out of range must be
// refused under the field's own name.
TEST(GrpcNormalForm, EverySamplingFieldIsRead) {
  const google::protobuf::Descriptor& sampling = *v1::Sampling::descriptor();
  for (int i = 0; i < sampling.field_count(); ++i) {
    const FieldDescriptor* field = sampling.field(i);
    v1::ChatRequest request = hello();
    v1::Sampling& values = *request.mutable_sampling();
    if (field->name() == "seed") {
      continue;  // any number is one; ChatsAreOpenAis has it
    }
    if (field->is_map()) {
      (*values.mutable_logit_bias())[3] = 1e9;
    } else if (field->is_repeated()) {
      values.add_dry_sequence_breakers("");
    } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_FLOAT) {
      values.GetReflection()->SetFloat(&values, field, 1e9);
    } else {
      values.GetReflection()->SetInt32(&values, field, -100);
    }
    EXPECT_TRUE(blamed_field(request).starts_with("sampling." + field->name()))
        << field->name() << " blames \"" << blamed_field(request) << "\"";
  }
}

TEST(GrpcNormalForm, CompletionsTakeTextOrTokens) {
  v1::GenerateRequest message;
  message.set_text("Once");
  message.set_suffix("end");
  message.mutable_options()->set_grammar("start: \"a\"");
  const openai::CompletionRequest text = to_completion_request(message);
  EXPECT_EQ(std::get<std::string>(text.prompts.at(0)), "Once");
  EXPECT_EQ(text.suffix, "end");
  EXPECT_EQ(text.options.constraint->field, "grammar");
  message.Clear();
  message.mutable_tokens()->add_ids(7);
  EXPECT_EQ(std::get<std::vector<int32_t>>(to_completion_request(message).prompts.at(0)),
            std::vector<int32_t>{7});
  message.mutable_tokens()->set_ids(0, -7);
  EXPECT_THROW(to_completion_request(message), RequestError);
  message.clear_prompt();
  EXPECT_THROW(to_completion_request(message), RequestError);
}

TEST(GrpcNormalForm, WhatIsWrongIsNamedAsTheMessageHasIt) {
  v1::ChatRequest request = hello();
  request.add_messages()->set_content("no role");
  EXPECT_EQ(blamed_field(request), "messages[1].role");
  request = hello();
  request.add_tools()->set_name("f");
  request.mutable_tools(0)->set_parameters("{");
  EXPECT_EQ(blamed_field(request), "tools[0].parameters");
  request = hello();
  request.mutable_options()->set_n(0);
  EXPECT_EQ(blamed_field(request), "options.n");
  request = hello();
  request.mutable_options()->set_logprobs(-1);
  EXPECT_EQ(blamed_field(request), "options.logprobs");
}

google::rpc::Status details_of(const grpc::Status& status) {
  google::rpc::Status details;
  EXPECT_TRUE(details.ParseFromString(status.error_details()));
  EXPECT_EQ(details.code(), status.error_code());
  EXPECT_EQ(details.message(), status.error_message());
  return details;
}

TEST(GrpcStatus, EveryErrorCodeHasItsStatus) {
  using grpc::StatusCode;
  const std::vector<std::pair<ErrorCode, StatusCode>> expected{
      {ErrorCode::kInvalidArgument, StatusCode::INVALID_ARGUMENT},
      {ErrorCode::kContextOverflow, StatusCode::INVALID_ARGUMENT},
      {ErrorCode::kNotFound, StatusCode::NOT_FOUND},
      {ErrorCode::kCorruptFile, StatusCode::FAILED_PRECONDITION},
      {ErrorCode::kUnsupported, StatusCode::FAILED_PRECONDITION},
      {ErrorCode::kOutOfMemory, StatusCode::UNAVAILABLE},
      {ErrorCode::kUnavailable, StatusCode::RESOURCE_EXHAUSTED},
      {ErrorCode::kTimeout, StatusCode::DEADLINE_EXCEEDED},
      {ErrorCode::kIo, StatusCode::INTERNAL},
      {ErrorCode::kInternal, StatusCode::INTERNAL}};
  for (const auto& [code, status] : expected) {
    EXPECT_EQ(to_status(to_api_error(code, "why", false)).error_code(), status);
  }
  EXPECT_EQ(status_code(to_api_error(ErrorCode::kUnavailable, "", true)), StatusCode::UNAVAILABLE);
  EXPECT_EQ(status_code({401, "", "", "", ""}), StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(status_code({403, "", "", "", ""}), StatusCode::PERMISSION_DENIED);
  EXPECT_EQ(status_code({499, "", "", "", ""}), StatusCode::CANCELLED);
}

TEST(GrpcStatus, DetailsSayWhatProgramsNeed) {
  const auto bad = details_of(to_status(bad_field("top_p", "\"top_p\" is wrong").error()));
  ASSERT_EQ(bad.details_size(), 2);
  google::rpc::BadRequest request;
  ASSERT_TRUE(bad.details(1).UnpackTo(&request));
  EXPECT_EQ(request.field_violations(0).field(), "sampling.top_p");

  ApiError full = to_api_error(ErrorCode::kUnavailable, "full", false);
  full.retry_after = std::chrono::seconds(7);
  const auto later = details_of(to_status(full));
  ASSERT_EQ(later.details_size(), 2);
  google::rpc::ErrorInfo info;
  ASSERT_TRUE(later.details(0).UnpackTo(&info));
  EXPECT_EQ(info.reason(), "QUEUE_FULL");
  google::rpc::RetryInfo retry;
  ASSERT_TRUE(later.details(1).UnpackTo(&retry));
  EXPECT_EQ(retry.retry_delay().seconds(), 7);

  EXPECT_EQ(details_of(to_status(to_api_error(ErrorCode::kNotFound, "no", false))).details_size(),
            1);
}

v1::ChatResponse read(const std::string& bytes) {
  v1::ChatResponse response;
  EXPECT_TRUE(response.ParseFromString(bytes));
  return response;
}

TEST(GrpcStream, WritesPiecesEndsAndErrors) {
  std::optional<ApiError> failed;
  const auto format =
      chat_stream({"req_1", "m", nullptr, [&](const ApiError& error) { failed = error; }});
  EXPECT_EQ(read(format->opening(1)).start().id(), "req_1");

  using Kind = ChatEvent::Kind;
  AnswerPiece piece;
  piece.choice = 1;
  const auto add = [&piece](Kind kind, const char* text, int call = 0, const char* id = "") {
    AnswerPart part;
    part.event.kind = kind;
    part.event.text = text;
    part.event.call = call;
    part.call_id = id;
    piece.parts.push_back(part);
  };
  add(Kind::kReasoning, "hm");
  add(Kind::kText, "a");
  add(Kind::kCall, "f", 0, "call_1");
  add(Kind::kArguments, "{");
  add(Kind::kCallEnd, "");
  add(Kind::kArguments, "}", 1);
  add(Kind::kText, "b");
  const v1::AnswerDelta delta = read(format->piece(piece)).delta();
  EXPECT_EQ(delta.choice(), 1);
  EXPECT_EQ(delta.reasoning(), "hm");
  EXPECT_EQ(delta.text(), "ab");
  ASSERT_EQ(delta.tool_calls_size(), 2);
  EXPECT_EQ(delta.tool_calls(0).id(), "call_1");
  EXPECT_EQ(delta.tool_calls(0).arguments(), "{");
  EXPECT_EQ(delta.tool_calls(1).index(), 1);
  piece.parts.clear();
  add(Kind::kCallEnd, "");
  EXPECT_EQ(format->piece(piece), "") << "nothing to say";

  AnswerEnd end;
  end.calls = 1;
  end.tokens = {4, 5};
  EXPECT_EQ(read(format->finish(0, end)).end().finish_reason(), v1::FINISH_REASON_TOOL_CALLS);
  end.reason = FinishReason::kLength;
  EXPECT_EQ(read(format->finish(0, end)).end().finish_reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(read(format->closing({3, 1, 2})).usage().cached_tokens(), 1);
  EXPECT_EQ(format->failure({504, "late", "", "", ""}), "") << "the call's status says it";
  EXPECT_EQ(failed->status, 504);
}

TEST(GrpcServer, ItsSocketIsBesideThatOfHttp) {
  EXPECT_EQ(socket_beside("/home/a/.mlxr/mlxr.sock"), "/home/a/.mlxr/mlxr-grpc.sock");
  EXPECT_EQ(socket_beside("/run/x"), "/run/x-grpc");
}

}  // namespace
}  // namespace mlxr::rpc
