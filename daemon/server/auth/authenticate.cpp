#include "daemon/server/auth/authenticate.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cctype>

#include "daemon/server/http/api_error.h"

namespace mlxr {
namespace {

constexpr std::string_view kScheme = "bearer ";

bool begins_with_scheme(std::string_view value) {
  return value.size() >= kScheme.size() &&
         std::equal(kScheme.begin(), kScheme.end(), value.begin(), [](char wanted, char c) {
           return wanted == static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
         });
}

// Some clients send the same key in both places, some a dummy in one of them.
std::vector<std::string_view> presented_keys(const Request& request) {
  std::vector<std::string_view> keys;
  std::string_view bearer = request.header("authorization");
  if (begins_with_scheme(bearer)) {
    bearer.remove_prefix(kScheme.size());
    bearer.remove_prefix(std::min(bearer.find_first_not_of(' '), bearer.size()));
    keys.push_back(bearer);
  }
  keys.push_back(request.header("x-api-key"));
  std::erase_if(keys, [](std::string_view key) { return key.empty(); });
  return keys;
}

RequestError unauthorized(const std::string& message, const std::string& code) {
  return RequestError({401, message, "invalid_request_error", "", code});
}

// Nobody learns where the file lies; whoever runs the server finds it in the log.
std::optional<ApiKey> find_key(KeyRing& keys, std::string_view secret) {
  try {
    return keys.find(secret);
  } catch (const Error& error) {
    spdlog::error("the API keys cannot be read: {}", error.what());
    throw RequestError(
        {500,
         "the API keys cannot be read, so nobody with a key is let in; this server's "
         "log says why",
         "server_error", "", "keys_unreadable"});
  }
}

}  // namespace

Caller authenticate(const Request& request, KeyRing& keys, bool required) {
  const bool needed = required && !request.is_unix_socket;
  bool looks_revoked = false;
  const std::vector<std::string_view> presented = presented_keys(request);
  for (const std::string_view secret : presented) {
    if (needed || looks_like_key(secret)) {
      if (const auto key = find_key(keys, secret)) {
        return {key->id, key->scopes, request.peer};
      }
      looks_revoked = true;
    }
  }
  if (looks_revoked) {
    throw unauthorized("this API key is not known here: it is mistyped or was revoked",
                       "invalid_api_key");
  }
  if (needed) {
    throw unauthorized(
        "an API key is needed: send \"Authorization: Bearer KEY\" or \"x-api-key: KEY\"; mlx key "
        "create makes one",
        "missing_api_key");
  }
  return {"", {true, true}, request.peer};
}

void check_access(const Caller& caller, Access access) {
  const bool allowed = access == Access::kOpen ||
                       (access == Access::kAdmin ? caller.scopes.admin : caller.scopes.inference);
  if (!allowed) {
    const std::string scope = access == Access::kAdmin ? "admin" : "inference";
    throw RequestError({403, "this API key does not have the scope \"" + scope + "\"",
                        "invalid_request_error", "", "insufficient_scope"});
  }
}

}  // namespace mlxr
