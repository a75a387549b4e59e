// Connections over TLS, apart from the plain ones so that the two are compiled side by side.
#include "daemon/server/http/connection-inl.h"

namespace mlxr {

std::shared_ptr<ConnectionHandle> start_tls_connection(
    asio::generic::stream_protocol::socket socket, asio::ssl::context& context,
    const HttpLimits& limits, const Handler& handler, std::function<void()> ended) {
  constexpr bool kIsUnixSocket = false;
  return start_on_strand(std::make_shared<Connection<TlsTransport>>(kIsUnixSocket, limits, handler,
                                                                    std::move(socket), context),
                         std::move(ended));
}

}  // namespace mlxr
