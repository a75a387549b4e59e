// The items that a stored response answers, page by page.
#pragma once

#include <map>
#include <string>

#include "daemon/server/json_body.h"

namespace mlxr::openai {

struct ItemsQuery {
  bool newest_first = true;
  size_t limit = 20;
  std::string after;  // the id of the last item of the page before; empty: from the beginning
};

// Of an address. Throws RequestError.
ItemsQuery read_items_query(const std::map<std::string, std::string>& query);
// What read_items_query reads.
Json items_query_schema();

// A list as OpenAI writes it: "data", "first_id", "last_id", "has_more". Throws RequestError where
// no item has the id that it is to begin after.
Json page_of_items(Json items, const ItemsQuery& query);

}  // namespace mlxr::openai
