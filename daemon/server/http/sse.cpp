#include "daemon/server/http/sse.h"

namespace mlxr {

std::string sse_event(std::string_view data) {
  std::string event = "data: ";
  for (const char c : data) {
    event += c;
    if (c == '\n') {
      event += "data: ";
    }
  }
  return event + "\n\n";
}

Task<bool> SseStream::begin() {
  last_write_ = std::chrono::steady_clock::now();
  co_return co_await exchange_.begin_stream("text/event-stream; charset=utf-8");
}

Task<bool> SseStream::send(std::string data) { co_return co_await write(sse_event(data)); }

Task<bool> SseStream::ping_if_idle() {
  if (std::chrono::steady_clock::now() < next_ping()) {
    co_return true;
  }
  co_return co_await write(": ping\n\n");
}

Task<bool> SseStream::write(std::string bytes) {
  const bool sent = co_await exchange_.write(std::move(bytes));
  last_write_ = std::chrono::steady_clock::now();
  co_return sent;
}

}  // namespace mlxr
