// The description of the API says of every route what the table says, and nothing else.
#include "daemon/server/openapi.h"

#include <gtest/gtest.h>

#include <set>

namespace mlxr {
namespace {

TEST(OpenApi, HasEveryRouteOnce) {
  const std::vector<RouteInfo> routes{
      {"GET", "/v1/models", Access::kInference, "List the models"},
      {"GET", "/v1/models/{name...}", Access::kInference, "One model"},
      {"DELETE", "/v1/models/{name...}", Access::kAdmin, "Delete a model"},
      {"GET", "/", Access::kOpen, "Root"}};
  const Json document = openapi_document(routes, "1.2");
  EXPECT_EQ(document["info"]["version"], "1.2");
  std::set<std::string> operations, ids;
  for (const auto& [path, methods] : document["paths"].items()) {
    for (const auto& [method, operation] : methods.items()) {
      operations.insert(method + " " + path);
      ids.insert(operation["operationId"].get<std::string>());
    }
  }
  EXPECT_EQ(operations, (std::set<std::string>{"get /v1/models", "get /v1/models/{name}",
                                               "delete /v1/models/{name}", "get /"}));
  EXPECT_EQ(ids.size(), operations.size());
}

TEST(OpenApi, SaysWhatARouteTakesAndNeeds) {
  const Json document = openapi_document(
      {{"POST", "/a/{x}/b/{y...}", Access::kAdmin, "Do it"}, {"GET", "/", Access::kOpen, ""}}, "1");
  const Json& admin = document["paths"]["/a/{x}/b/{y}"]["post"];
  EXPECT_EQ(admin["operationId"], "post_a_x_b_y");
  EXPECT_EQ(admin["summary"], "Do it");
  ASSERT_EQ(admin["parameters"].size(), 2U);
  EXPECT_EQ(admin["parameters"][1]["name"], "y");
  EXPECT_EQ(admin["x-scope"], "admin");
  EXPECT_EQ(admin["security"].size(), 2U);
  EXPECT_TRUE(admin["responses"].contains("403"));
  const Json& open = document["paths"]["/"]["get"];
  EXPECT_TRUE(open["security"].empty());
  EXPECT_TRUE(open["x-scope"].is_null());
  EXPECT_FALSE(open["responses"].contains("401"));
}

}  // namespace
}  // namespace mlxr
