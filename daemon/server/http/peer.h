// Where a request comes from.
#pragma once

#include <string>
#include <string_view>

namespace mlxr {

// The address of the other end of a TCP socket ("192.0.2.7", "2001:db8::1"), without its port.
// Empty for any other socket, or when the other end is gone.
std::string peer_address(int descriptor);

// The same from gRPC's "ipv4:192.0.2.7:50051" and "ipv6:%5B2001:db8::1%5D:50051".
std::string peer_address(std::string_view grpc_peer);

}  // namespace mlxr
