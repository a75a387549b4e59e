// Server-sent events over an exchange, with a comment when the socket was idle for a while, so that
// clients and proxies do not take a long prefill for a dead connection.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "daemon/server/http/exchange.h"

namespace mlxr {

// "data: ...\n\n"; line breaks inside become several data lines.
std::string sse_event(std::string_view data);

class SseStream {
 public:
  explicit SseStream(Exchange& exchange) : exchange_(exchange) {}

  static constexpr std::chrono::milliseconds kPingInterval{3000};

  Task<bool> begin();
  Task<bool> send(std::string data);
  // Sends a comment when nothing was sent for kPingInterval.
  Task<bool> ping_if_idle();
  std::chrono::steady_clock::time_point next_ping() const { return last_write_ + kPingInterval; }

 private:
  Task<bool> write(std::string bytes);

  Exchange& exchange_;
  std::chrono::steady_clock::time_point last_write_ = std::chrono::steady_clock::now();
};

}  // namespace mlxr
