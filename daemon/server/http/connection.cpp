#include "daemon/server/http/connection.h"

#include <random>

#include "daemon/server/http/connection-inl.h"

namespace mlxr {

std::string next_request_id() {
  static const uint32_t process = std::random_device{}();
  static std::atomic<uint32_t> count{0};
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "req_%08x%06x", process, ++count);
  return text.data();
}

std::shared_ptr<ConnectionHandle> start_connection(asio::generic::stream_protocol::socket socket,
                                                   bool is_unix_socket, const HttpLimits& limits,
                                                   const Handler& handler,
                                                   std::function<void()> ended) {
  return start_on_strand(std::make_shared<Connection<PlainTransport>>(is_unix_socket, limits,
                                                                      handler, std::move(socket)),
                         std::move(ended));
}

}  // namespace mlxr
