#include "daemon/server/http/peer.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <boost/asio/ip/address.hpp>
#include <cstring>

namespace mlxr {
namespace {

namespace ip = boost::asio::ip;

// IPv4 over a socket for both is IPv4.
std::string text_of(ip::address address) {
  if (address.is_v6() && address.to_v6().is_v4_mapped()) {
    address = ip::make_address_v4(ip::v4_mapped, address.to_v6());
  }
  return address.to_string();
}

}  // namespace

std::string peer_address(int descriptor) {
  sockaddr_storage storage{};
  socklen_t size = sizeof(storage);
  if (::getpeername(descriptor, reinterpret_cast<sockaddr*>(&storage), &size) != 0) return {};
  if (storage.ss_family == AF_INET) {
    sockaddr_in v4{};
    std::memcpy(&v4, &storage, sizeof(v4));
    return text_of(ip::address_v4(ntohl(v4.sin_addr.s_addr)));
  }
  if (storage.ss_family == AF_INET6) {
    sockaddr_in6 v6{};
    std::memcpy(&v6, &storage, sizeof(v6));
    ip::address_v6::bytes_type bytes{};
    std::memcpy(bytes.data(), v6.sin6_addr.s6_addr, bytes.size());
    return text_of(ip::address_v6(bytes));
  }
  return {};
}

std::string peer_address(std::string_view grpc_peer) {
  const size_t scheme = grpc_peer.find(':'), port = grpc_peer.rfind(':');
  if (!grpc_peer.starts_with("ipv") || port <= scheme) return {};
  std::string_view host = grpc_peer.substr(scheme + 1, port - scheme - 1);
  for (const std::string_view open : {"%5B", "["}) {
    if (host.starts_with(open)) host.remove_prefix(open.size());
  }
  for (const std::string_view close : {"%5D", "]"}) {
    if (host.ends_with(close)) host.remove_suffix(close.size());
  }
  boost::system::error_code problem;
  const ip::address address = ip::make_address(host, problem);
  return problem ? std::string() : text_of(address);
}

}  // namespace mlxr
