#include "daemon/server/http/router.h"

#include <algorithm>

namespace mlxr {
namespace {

std::vector<std::string> segments_of(const std::string& path) {
  std::vector<std::string> segments;
  size_t begin = 1;
  while (begin <= path.size()) {
    const size_t end = std::min(path.find('/', begin), path.size());
    segments.push_back(path.substr(begin, end - begin));
    begin = end + 1;
  }
  return segments;
}

bool is_variable(const std::string& segment) {
  return segment.size() > 2 && segment.front() == '{' && segment.back() == '}';
}

bool takes_rest(const std::string& segment) {
  return is_variable(segment) && segment.ends_with("...}");
}

std::string rest_of(const std::vector<std::string>& segments, size_t from) {
  std::string rest = segments[from];
  for (size_t i = from + 1; i < segments.size(); ++i) {
    rest += "/" + segments[i];
  }
  return rest;
}

bool matches(const std::vector<std::string>& pattern, const std::vector<std::string>& path,
             std::map<std::string, std::string>& values) {
  values.clear();
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (i >= path.size()) {
      return false;
    }
    if (takes_rest(pattern[i])) {
      values[pattern[i].substr(1, pattern[i].size() - 5)] = rest_of(path, i);
      return !path[i].empty();
    }
    if (is_variable(pattern[i])) {
      if (path[i].empty()) {
        return false;
      }
      values[pattern[i].substr(1, pattern[i].size() - 2)] = path[i];
    } else if (pattern[i] != path[i]) {
      return false;
    }
  }
  return pattern.size() == path.size();
}

}  // namespace

void Router::add(RouteInfo info, Handler handler) {
  std::vector<std::string> segments = segments_of(info.pattern);
  routes_.push_back({std::move(info), std::move(segments), std::move(handler)});
}

std::vector<RouteInfo> Router::table() const {
  std::vector<RouteInfo> table;
  for (const Route& route : routes_) {
    table.push_back(route.info);
  }
  return table;
}

Router::Match Router::match(Request& request) const {
  const std::vector<std::string> path = segments_of(request.path);
  const auto serves = [&request](const Route& route) {
    return route.info.method == request.method ||
           (request.method == "HEAD" && route.info.method == "GET");
  };
  Match result;
  for (const Route& route : routes_) {
    std::map<std::string, std::string> values;
    if (!matches(route.segments, path, values)) {
      continue;
    }
    result.pattern = route.info.pattern;
    result.access = route.info.access;
    result.reads_body_itself = route.info.reads_body_itself;
    if (serves(route)) {
      request.path_values = std::move(values);
      result.handler = &route.handler;
      return result;
    }
    result.allowed.push_back(route.info.method);
    if (route.info.method == "GET") {
      result.allowed.push_back("HEAD");
    }
  }
  return result;
}

}  // namespace mlxr
