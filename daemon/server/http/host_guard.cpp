#include "daemon/server/http/host_guard.h"

#include <algorithm>
#include <cctype>

namespace mlxr {
namespace {

bool is_port(std::string_view text) {
  return text.size() <= 5 && std::all_of(text.begin(), text.end(),
                                         [](unsigned char c) { return std::isdigit(c) != 0; });
}

std::string lower(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return result;
}

}  // namespace

bool is_loopback_host(std::string_view host) {
  const std::string text = lower(host);
  for (const std::string_view name : {"localhost", "127.0.0.1", "[::1]"}) {
    if (text == name) {
      return true;
    }
    if (text.starts_with(name) && text[name.size()] == ':' &&
        is_port(std::string_view(text).substr(name.size() + 1))) {
      return true;
    }
  }
  return false;
}

bool is_loopback_origin(std::string_view origin) {
  const std::string text = lower(origin);
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (text.starts_with(scheme)) {
      return is_loopback_host(std::string_view(text).substr(scheme.size()));
    }
  }
  return false;
}

std::optional<std::string> refuse_foreign_host(const Request& request) {
  if (request.is_unix_socket) {
    return std::nullopt;
  }
  if (!is_loopback_host(request.header("host"))) {
    return "the Host header must be localhost, 127.0.0.1 or [::1]; other names are refused so that "
           "web pages cannot reach this server";
  }
  const auto origin = request.headers.find("origin");
  if (origin != request.headers.end() && !is_loopback_origin(origin->second)) {
    return "requests from other web sites are refused: the Origin header must be a loopback "
           "address";
  }
  return std::nullopt;
}

}  // namespace mlxr
