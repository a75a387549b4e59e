#include "daemon/server/http/host_guard.h"

#include <algorithm>
#include <boost/asio/ip/address.hpp>
#include <cctype>

namespace mlxr {

namespace asio = boost::asio;

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

// "box:80" and "box" are "box"; anything that is no host with a port stays whole.
std::string without_port(std::string_view host) {
  const size_t colon = host.rfind(':');
  const bool has_port = colon != std::string_view::npos && is_port(host.substr(colon + 1)) &&
                        (host.front() == '[' ? host[colon - 1] == ']' : host.find(':') == colon);
  return lower(has_port ? host.substr(0, colon) : host);
}

std::string_view without_scheme(std::string_view origin) {
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (lower(origin.substr(0, scheme.size())) == scheme) {
      return origin.substr(scheme.size());
    }
  }
  return {};
}

bool is_address(std::string_view host) {
  if (host.starts_with('[') && host.ends_with(']')) {
    host = host.substr(1, host.size() - 2);
  }
  boost::system::error_code problem;
  asio::ip::make_address(std::string(host), problem);
  return !problem;
}

bool is_allowed_host(std::string_view host, const HostRules& rules) {
  const std::string name = without_port(host);
  return is_loopback_host(host) || (rules.addresses && is_address(name)) ||
         std::any_of(rules.names.begin(), rules.names.end(),
                     [&](const std::string& allowed) { return lower(allowed) == name; });
}

bool is_allowed_origin(std::string_view origin, std::string_view host, const HostRules& rules) {
  return is_loopback_origin(origin) ||
         (!host.empty() && lower(without_scheme(origin)) == lower(host)) ||
         std::any_of(rules.origins.begin(), rules.origins.end(), [&](const std::string& allowed) {
           return allowed == "*" || lower(allowed) == lower(origin);
         });
}

}  // namespace

bool is_loopback_host(std::string_view host) {
  const std::string name = without_port(host);
  return name == "localhost" || name == "127.0.0.1" || name == "[::1]";
}

bool is_loopback_origin(std::string_view origin) {
  return is_loopback_host(without_scheme(origin));
}

std::optional<std::string> refuse_foreign_host(const Request& request, const HostRules& rules) {
  if (request.is_unix_socket) {
    return std::nullopt;
  }
  const std::string_view host = request.header("host");
  if (!is_allowed_host(host, rules)) {
    return "the Host header must be localhost" +
           std::string(rules.addresses ? ", an IP address" : ", 127.0.0.1, [::1]") +
           " or a name of the setting allowed_hosts; other names are refused so that web pages "
           "cannot reach this server";
  }
  const auto origin = request.headers.find("origin");
  if (origin != request.headers.end() && !is_allowed_origin(origin->second, host, rules)) {
    return "requests from other web sites are refused: the Origin header must be a loopback "
           "address, this server's own, or in the setting allowed_origins";
  }
  return std::nullopt;
}

}  // namespace mlxr
