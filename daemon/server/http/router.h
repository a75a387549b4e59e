// Maps method and path to a handler. Patterns are literal segments and {name}, which matches one
// segment; a last segment {name...} matches the rest.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "daemon/server/http/exchange.h"

namespace mlxr {

using Handler = std::function<Task<void>(Exchange&)>;

// What a caller must be allowed to do.
enum class Access { kOpen, kInference, kAdmin };

// What goes in and comes out: names of schemas in the description of the API; empty: none.
struct RouteBodies {
  std::string request;
  std::string answer;       // as JSON
  std::string stream = "";  // a content type, of an answer that is streamed or is no JSON
};

struct RouteInfo {
  std::string method, pattern;
  Access access = Access::kInference;
  std::string summary;  // one line for people
  RouteBodies bodies = {};
  bool reads_body_itself = false;  // the handler takes it piece by piece
  std::string query = "";          // the schema whose properties the query may have
};

class Router {
 public:
  void add(RouteInfo info, Handler handler);
  std::vector<RouteInfo> table() const;  // in the order in which routes were added

  struct Match {
    const Handler* handler = nullptr;  // null: see `allowed`
    Access access = Access::kInference;
    bool reads_body_itself = false;
    std::string pattern;
    std::vector<std::string> allowed;  // methods the path has; empty: no such path
  };
  // Fills request.path_values. HEAD is served by GET.
  Match match(Request& request) const;

 private:
  struct Route {
    RouteInfo info;
    std::vector<std::string> segments;
    Handler handler;
  };
  std::vector<Route> routes_;
};

}  // namespace mlxr
