// HTTP to the daemon over its Unix socket.
#pragma once

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "cli/client/interrupt.h"

namespace mlxr::cli {

using Json = nlohmann::ordered_json;

struct Reply {
  int status = 0;
  std::string body;
};

class DaemonClient {
 public:
  explicit DaemonClient(std::filesystem::path socket) : socket_(std::move(socket)) {}
  const std::filesystem::path& socket() const { return socket_; }

  // The answer whatever its status; nothing when no daemon listens.
  std::optional<Reply> try_get(const std::string& path) const;

  // These throw what the daemon said when it refuses, and Error{kUnavailable} when it is gone.
  Json get(const std::string& path) const;
  // `label` is shown, with dots, when the answer takes more than half a second.
  Json post(const std::string& path, const Json& body, const std::string& label = "") const;
  // Gives each piece of the answer to `on_data` as it comes. False when `interrupt` ended it, which
  // closes the connection, and so the request.
  bool stream(const std::string& path, const Json& body,
              const std::function<void(std::string_view)>& on_data,
              const Interrupt& interrupt) const;

 private:
  std::filesystem::path socket_;
};

// "a/b c" as one segment of a path.
std::string escape_segment(const std::string& text);

}  // namespace mlxr::cli
