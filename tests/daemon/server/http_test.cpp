// The HTTP pieces that need no socket: guard, router, targets, events, error shapes.
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>

#include "daemon/server/http/api_error.h"
#include "daemon/server/http/cors.h"
#include "daemon/server/http/host_guard.h"
#include "daemon/server/http/kept_stream.h"
#include "daemon/server/http/router.h"
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

TEST(HostGuard, PassesTheNamesItWasGivenAndAddressesWhereTheNetworkIsLetIn) {
  const auto passes = [](const std::string& host, const HostRules& rules) {
    Request request;
    request.headers["host"] = host;
    return !refuse_foreign_host(request, rules);
  };
  const HostRules named{{"Box.example"}, false}, network{{"box.example"}, true};
  for (const char* host : {"box.example", "BOX.example:8080", "localhost:1", "[::1]"}) {
    EXPECT_TRUE(passes(host, named)) << host;
    EXPECT_TRUE(passes(host, network)) << host;
  }
  for (const char* host : {"192.168.1.7", "192.168.1.7:80", "[fe80::1]:80", "0.0.0.0:1"}) {
    EXPECT_FALSE(passes(host, named)) << host;
    EXPECT_TRUE(passes(host, network)) << host;
  }
  for (const char* host : {"", "example", "a.box.example", "box.example.evil.test", "box.example:x",
                           "evil.test:80", ":80", "[", "192.168.1.7.evil.test"}) {
    EXPECT_FALSE(passes(host, named)) << host;
    EXPECT_FALSE(passes(host, network)) << host;
  }
}

TEST(HostGuard, PassesTheServersOwnPages) {
  const HostRules rules{{"box.example"}, false};
  Request request;
  request.headers["host"] = "box.example:8080";
  request.headers["origin"] = "http://box.example:8080";
  EXPECT_FALSE(refuse_foreign_host(request, rules));
  request.headers["origin"] = "http://box.example:9090";
  EXPECT_TRUE(refuse_foreign_host(request, rules));
}

TEST(HostGuard, PassesOriginsThatAreAllowed) {
  const HostRules some{{}, false, {"https://app.example", "http://b.example:81"}};
  const HostRules all{{}, false, {"*"}};
  const auto passes = [](const std::string& origin, const HostRules& rules) {
    Request request;
    request.headers = {{"host", "localhost"}, {"origin", origin}};
    return !refuse_foreign_host(request, rules);
  };
  for (const char* origin : {"https://app.example", "HTTPS://App.example", "http://b.example:81",
                             "http://localhost:3000"}) {
    EXPECT_TRUE(passes(origin, some)) << origin;
  }
  for (const char* origin :
       {"http://app.example", "https://app.example:444", "https://example", "https://a.app.example",
        "https://app.example.evil.test", "null", "*"}) {
    EXPECT_FALSE(passes(origin, some)) << origin;
    EXPECT_TRUE(passes(origin, all)) << origin;
  }
}

TEST(Cors, AnswersOnlyPagesOfOtherOrigins) {
  Request request;
  EXPECT_TRUE(cors_headers(request).empty());
  request.headers = {{"origin", "https://app.example"},
                     {"access-control-request-method", "POST"},
                     {"access-control-request-headers", "authorization,content-type"}};
  const auto headers = cors_headers(request);
  EXPECT_EQ(headers.front(), (std::pair<std::string, std::string>("Access-Control-Allow-Origin",
                                                                  "https://app.example")));
  const Response preflight = options_response(request, {"POST"});
  const std::map<std::string, std::string> said(preflight.headers.begin(), preflight.headers.end());
  EXPECT_EQ(said.at("Access-Control-Allow-Methods"), "POST, OPTIONS");
  EXPECT_EQ(said.at("Access-Control-Allow-Headers"), "authorization,content-type");
  EXPECT_EQ(options_response(Request{}, {"GET", "HEAD"}).headers,
            (std::vector<std::pair<std::string, std::string>>{{"Allow", "GET, HEAD, OPTIONS"}}));
}

TEST(HostGuard, RefusesForeignOrigins) {
  const HostRules rules;
  Request request;
  request.headers["host"] = "localhost:1";
  EXPECT_FALSE(refuse_foreign_host(request, rules));
  request.headers["origin"] = "http://localhost:3000";
  EXPECT_FALSE(refuse_foreign_host(request, rules));
  for (const char* origin :
       {"https://evil.test", "null", "", "file://", "http://localhost.evil.test"}) {
    request.headers["origin"] = origin;
    EXPECT_TRUE(refuse_foreign_host(request, rules)) << origin;
  }
  request.is_unix_socket = true;
  EXPECT_FALSE(refuse_foreign_host(request, rules));
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
    router_.add({"GET", "/v1/models", Access::kInference, ""}, none);
    router_.add({"GET", "/v1/models/{name...}", Access::kInference, ""}, none);
    router_.add({"POST", "/v1/chat", Access::kInference, ""}, none);
    router_.add({"GET", "/item/{id}/part", Access::kAdmin, ""}, none);
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
      {ErrorCode::kTimeout, 504},         {ErrorCode::kInternal, 500}};
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
  record.key = "key_1";
  record.model = "a\"\nb";
  record.prompt_tokens = 3;
  record.cached_tokens = 0;
  record.generated_tokens = 4;
  record.finish = "stop";
  EXPECT_EQ(to_log_line(record),
            "request id=req_1 route=\"GET /health\" status=200 key=key_1 model=\"a\\\" b\" "
            "prompt_tokens=3 "
            "cached_tokens=0 tokens=4 finish=stop ms=1.2");
}

}  // namespace
}  // namespace mlxr
