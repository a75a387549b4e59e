// An HTTP request and response as plain data.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mlxr {

struct Request {
  std::string method;
  std::string path;                            // decoded, without the query
  std::map<std::string, std::string> query;    // decoded
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;
  bool is_unix_socket = false;
  std::string peer;                                // see peer.h; empty over a Unix socket
  std::map<std::string, std::string> path_values;  // what {name} in the route matched

  // Empty when absent.
  std::string_view header(const std::string& lower_case_name) const;
};

struct Response {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers;
};

// Splits "/a%20b?x=1" into path and query. False when the escapes are malformed.
bool parse_target(std::string_view target, Request& request);

}  // namespace mlxr
