// A stream over an exchange that says something when the socket was idle for a while, so that
// clients and proxies do not take a long prefill for a dead connection.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "daemon/server/http/exchange.h"

namespace mlxr {

// A server-sent event: "event: NAME" where a name is given, then "data: ..."; line breaks inside
// become several data lines.
std::string sse_event(std::string_view data, std::string_view name = "");

inline constexpr const char* kEventStreamType = "text/event-stream; charset=utf-8";
inline constexpr const char* kEventStreamPing = ": ping\n\n";  // a comment

class KeptStream {
 public:
  KeptStream(Exchange& exchange, std::string content_type, std::string ping)
      : exchange_(exchange), content_type_(std::move(content_type)), ping_(std::move(ping)) {}

  static constexpr std::chrono::milliseconds kPingInterval{3000};

  // Does nothing more where the exchange's stream was begun before.
  Task<bool> begin();
  Task<bool> send(std::string bytes);
  // Sends the ping when nothing was sent for kPingInterval.
  Task<bool> ping_if_idle();
  std::chrono::steady_clock::time_point next_ping() const { return last_write_ + kPingInterval; }

 private:
  Exchange& exchange_;
  std::string content_type_, ping_;
  std::chrono::steady_clock::time_point last_write_ = std::chrono::steady_clock::now();
};

}  // namespace mlxr
