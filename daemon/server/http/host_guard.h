// Refuses requests that a web page on another site made the browser send to this machine (DNS
// rebinding and cross-site requests): on TCP, Host must be a name that this server goes by, and
// Origin a page of this machine or of this server itself.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/server/http/message.h"

namespace mlxr {

struct HostRules {
  std::vector<std::string> names;  // beside the loopback ones; without ports
  // Any IP address will do: a page can give this server a name of its own, but not a number.
  bool addresses = false;
  std::vector<std::string> origins;  // of other sites' pages; "*" is every one
};

// "localhost", "127.0.0.1" or "[::1]", with or without a port.
bool is_loopback_host(std::string_view host);
// "http://localhost:3000" and the like.
bool is_loopback_origin(std::string_view origin);

// Why the request is refused; nothing when it may pass.
std::optional<std::string> refuse_foreign_host(const Request& request, const HostRules& rules);

}  // namespace mlxr
