#include "daemon/server/openai/input_items.h"

#include <algorithm>
#include <charconv>

#include "daemon/server/http/api_error.h"
#include "daemon/server/schema.h"

namespace mlxr::openai {
namespace {

constexpr size_t kLongestPage = 100;

std::string value_of(const std::map<std::string, std::string>& query, const std::string& name) {
  const auto found = query.find(name);
  return found == query.end() ? "" : found->second;
}

size_t read_limit(const std::string& text) {
  size_t limit = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), limit);
  if (problem != std::errc() || end != text.data() + text.size() || limit < 1 ||
      limit > kLongestPage) {
    throw bad_field("limit", "\"limit\" must be a whole number from 1 to " +
                                 std::to_string(kLongestPage) + ", not \"" + text + "\"");
  }
  return limit;
}

}  // namespace

ItemsQuery read_items_query(const std::map<std::string, std::string>& query) {
  ItemsQuery read;
  const std::string order = value_of(query, "order");
  if (!order.empty() && order != "asc" && order != "desc") {
    throw bad_field("order", "\"order\" must be asc or desc, not \"" + order + "\"");
  }
  read.newest_first = order != "asc";
  if (query.contains("limit")) {
    read.limit = read_limit(value_of(query, "limit"));
  }
  read.after = value_of(query, "after");
  return read;
}

Json items_query_schema() {
  Json schema = answer_schema(R"({"order": {"enum": ["asc", "desc"]}, "limit": {},
    "after": {"type": "string"}})",
                              {});
  schema["properties"]["limit"] = integer_schema(1, kLongestPage);
  return schema;
}

Json page_of_items(Json items, const ItemsQuery& query) {
  if (query.newest_first) {
    std::reverse(items.begin(), items.end());
  }
  auto begin = items.begin();
  if (!query.after.empty()) {
    begin = std::find_if(items.begin(), items.end(),
                         [&](const Json& item) { return item["id"] == query.after; });
    if (begin == items.end()) {
      throw bad_field("after", "\"after\" names no item of this response: \"" + query.after + "\"");
    }
    ++begin;
  }
  Json page = Json::array();
  while (begin != items.end() && page.size() < query.limit) {
    page.push_back(*begin++);
  }
  Json first = page.empty() ? Json() : page.front()["id"];
  Json last = page.empty() ? Json() : page.back()["id"];
  return {{"object", "list"},
          {"data", std::move(page)},
          {"first_id", std::move(first)},
          {"last_id", std::move(last)},
          {"has_more", begin != items.end()}};
}

}  // namespace mlxr::openai
