// The HTTP pieces that need no socket: guard, router, targets, events, error shapes.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "daemon/server/http/api_error.h"
#include "daemon/server/http/host_guard.h"
#include "daemon/server/http/router.h"
#include "daemon/server/http/sse.h"
#include "daemon/telemetry/log.h"

namespace mlxr {
namespace {

TEST(HostGuard, PassesLoopbackNamesOnly) {
  for (const char* host :
       {"localhost", "LocalHost:80", "127.0.0.1", "127.0.0.1:11435", "[::1]", "[::1]:8080"}) {
    EXPECT_TRUE(is_loopback_host(host)) << host;
  }
  for (const char* host :
       {"", "evil.test", "localhost.evil.test", "127.0.0.1.evil.test", "127.0.0.2", "localhost:80a",
        "localhost:123456", "evil.test:80", "::1"}) {
    EXPECT_FALSE(is_loopback_host(host)) << host;
  }
}

TEST(HostGuard, RefusesForeignOrigins) {
  Request request;
  request.headers["host"] = "localhost:1";
  EXPECT_FALSE(refuse_foreign_host(request));
  request.headers["origin"] = "http://localhost:3000";
  EXPECT_FALSE(refuse_foreign_host(request));
  for (const char* origin :
       {"https://evil.test", "null", "", "file://", "http://localhost.evil.test"}) {
    request.headers["origin"] = origin;
    EXPECT_TRUE(refuse_foreign_host(request)) << origin;
  }
  request.is_unix_socket = true;
  EXPECT_FALSE(refuse_foreign_host(request));
}

Request get(const std::string& target, const std::string& method = "GET") {
  Request request;
  request.method = method;
  EXPECT_TRUE(parse_target(target, request)) << target;
  return request;
}

TEST(Target, IsDecoded) {
  const Request request = get("/v1/models/a%20b%2Fc?x=1+2&y=%41&z");
  EXPECT_EQ(request.path, "/v1/models/a b/c");
  EXPECT_EQ(request.query.at("x"), "1 2");
  EXPECT_EQ(request.query.at("y"), "A");
  EXPECT_EQ(request.query.at("z"), "");
}

TEST(Target, RefusesMalformedEscapes) {
  Request request;
  for (const char* target : {"/%", "/%4", "/%zz", "/%00", "", "x", "/a?%"}) {
    EXPECT_FALSE(parse_target(target, request)) << target;
  }
}

class RouterTest : public ::testing::Test {
 protected:
  RouterTest() {
    const Handler none = [](Exchange&) -> Task<void> { co_return; };
    router_.add("GET", "/v1/models", none);
    router_.add("GET", "/v1/models/{name...}", none);
    router_.add("POST", "/v1/chat", none);
    router_.add("GET", "/item/{id}/part", none);
  }
  Router router_;
};

TEST_F(RouterTest, MatchesPathsAndVariables) {
  Request request = get("/v1/models/org/name");
  const Router::Match match = router_.match(request);
  ASSERT_NE(match.handler, nullptr);
  EXPECT_EQ(match.pattern, "/v1/models/{name...}");
  EXPECT_EQ(request.path_values.at("name"), "org/name");
  request = get("/item/7/part");
  ASSERT_NE(router_.match(request).handler, nullptr);
  EXPECT_EQ(request.path_values.at("id"), "7");
}

TEST_F(RouterTest, TellsUnknownPathsFromWrongMethods) {
  Request unknown = get("/v1/nothing");
  EXPECT_TRUE(router_.match(unknown).allowed.empty());
  Request wrong = get("/v1/chat");
  const Router::Match match = router_.match(wrong);
  EXPECT_EQ(match.handler, nullptr);
  EXPECT_EQ(match.allowed, std::vector<std::string>{"POST"});
  Request empty_name = get("/v1/models/");
  EXPECT_EQ(router_.match(empty_name).handler, nullptr);
  EXPECT_TRUE(router_.match(empty_name).allowed.empty());
}

TEST_F(RouterTest, ServesHeadByGet) {
  Request head = get("/v1/models", "HEAD");
  EXPECT_NE(router_.match(head).handler, nullptr);
  Request post = get("/v1/models", "POST");
  EXPECT_EQ(router_.match(post).allowed, (std::vector<std::string>{"GET", "HEAD"}));
}

TEST(Sse, WritesOneEvent) {
  EXPECT_EQ(sse_event("{\"a\":1}"), "data: {\"a\":1}\n\n");
  EXPECT_EQ(sse_event("a\nb"), "data: a\ndata: b\n\n");
}

TEST(ApiErrors, EveryCodeHasItsStatus) {
  const std::vector<std::pair<ErrorCode, int>> statuses{
      {ErrorCode::kInvalidArgument, 400}, {ErrorCode::kContextOverflow, 400},
      {ErrorCode::kNotFound, 404},        {ErrorCode::kCorruptFile, 422},
      {ErrorCode::kUnsupported, 422},     {ErrorCode::kOutOfMemory, 503},
      {ErrorCode::kUnavailable, 429},     {ErrorCode::kIo, 500},
      {ErrorCode::kInternal, 500}};
  for (const auto& [code, status] : statuses) {
    EXPECT_EQ(to_api_error(code, "why", false).status, status);
  }
  EXPECT_EQ(to_api_error(ErrorCode::kUnavailable, "why", true).status, 503);
  EXPECT_EQ(to_api_error(ErrorCode::kContextOverflow, "", false).code, "context_length_exceeded");
  EXPECT_EQ(to_api_error(ErrorCode::kNotFound, "", false).code, "model_not_found");
}

TEST(ApiErrors, HaveOpenAisShape) {
  const auto json = nlohmann::json::parse(to_json(bad_field("top_p", "too \"big\"").error()));
  EXPECT_EQ(json["error"]["message"], "too \"big\"");
  EXPECT_EQ(json["error"]["type"], "invalid_request_error");
  EXPECT_EQ(json["error"]["param"], "top_p");
  EXPECT_TRUE(json["error"]["code"].is_null());
  EXPECT_EQ(json["error"].size(), 4U);
}

TEST(ApiErrors, UnknownExceptionsAreInternal) {
  const ApiError error = to_api_error(std::make_exception_ptr(std::runtime_error("boom")), false);
  EXPECT_EQ(error.status, 500);
  EXPECT_EQ(error.code, "internal_error");
}

TEST(RequestLog, LeavesOutWhatIsNotKnownAndQuotesWhatClientsChose) {
  RequestRecord record;
  record.id = "req_1";
  record.route = "GET /health";
  record.status = 200;
  record.milliseconds = 1.25;
  EXPECT_EQ(to_log_line(record), "request id=req_1 route=\"GET /health\" status=200 ms=1.2");
  record.model = "a\"\nb";
  record.prompt_tokens = 3;
  record.cached_tokens = 0;
  record.generated_tokens = 4;
  record.finish = "stop";
  EXPECT_EQ(to_log_line(record),
            "request id=req_1 route=\"GET /health\" status=200 model=\"a\\\" b\" prompt_tokens=3 "
            "cached_tokens=0 tokens=4 finish=stop ms=1.2");
}

}  // namespace
}  // namespace mlxr
