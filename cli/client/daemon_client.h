// HTTP to the daemon: over its Unix socket, or to one on another machine by its URL.
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

// Where a daemon is.
struct DaemonAddress {
  std::filesystem::path socket = {};
  std::string url = {};                // used where it is not empty: "https://box.example:11435"
  std::filesystem::path ca_file = {};  // PEM; empty: the authorities that this system trusts
  std::string key = {};                // an API key; of a URL only

  std::string text() const { return url.empty() ? socket.string() : url; }
};

class DaemonClient {
 public:
  explicit DaemonClient(DaemonAddress address) : address_(std::move(address)) {}
  const std::filesystem::path& socket() const { return address_.socket; }

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
  DaemonAddress address_;
};

// "a/b c" as one segment of a path.
std::string escape_segment(const std::string& text);

}  // namespace mlxr::cli
