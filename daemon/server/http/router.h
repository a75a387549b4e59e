// Maps method and path to a handler. Patterns are literal segments and {name}, which matches one
// segment; a last segment {name...} matches the rest.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "daemon/server/http/exchange.h"

namespace mlxr {

using Handler = std::function<Task<void>(Exchange&)>;

class Router {
 public:
  void add(std::string method, std::string pattern, Handler handler);

  struct Match {
    const Handler* handler = nullptr;  // null: see `allowed`
    std::string pattern;
    std::vector<std::string> allowed;  // methods the path has; empty: no such path
  };
  // Fills request.path_values. HEAD is served by GET.
  Match match(Request& request) const;

 private:
  struct Route {
    std::string method, pattern;
    std::vector<std::string> segments;
    Handler handler;
  };
  std::vector<Route> routes_;
};

}  // namespace mlxr
