// Refuses requests that a web page on another site made the browser send to this machine (DNS
// rebinding and cross-site requests): on TCP, Host and Origin must name the loopback interface.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "daemon/server/http/message.h"

namespace mlxr {

// "localhost", "127.0.0.1" or "[::1]", with or without a port.
bool is_loopback_host(std::string_view host);
// "http://localhost:3000" and the like.
bool is_loopback_origin(std::string_view origin);

// Why the request is refused; nothing when it may pass.
std::optional<std::string> refuse_foreign_host(const Request& request);

}  // namespace mlxr
