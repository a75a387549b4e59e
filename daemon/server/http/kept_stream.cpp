#include "daemon/server/http/kept_stream.h"

namespace mlxr {

std::string sse_event(std::string_view data, std::string_view name) {
  std::string event;
  if (!name.empty()) {
    event.append("event: ").append(name).append("\n");
  }
  event += "data: ";
  for (const char c : data) {
    event += c;
    if (c == '\n') {
      event += "data: ";
    }
  }
  return event + "\n\n";
}

Task<bool> KeptStream::begin() {
  last_write_ = std::chrono::steady_clock::now();
  if (exchange_.started()) {
    co_return !exchange_.disconnected();
  }
  co_return co_await exchange_.begin_stream(content_type_);
}

Task<bool> KeptStream::ping_if_idle() {
  if (std::chrono::steady_clock::now() < next_ping()) {
    co_return true;
  }
  co_return co_await send(ping_);
}

Task<bool> KeptStream::send(std::string bytes) {
  const bool sent = co_await exchange_.write(std::move(bytes));
  last_write_ = std::chrono::steady_clock::now();
  co_return sent;
}

}  // namespace mlxr
