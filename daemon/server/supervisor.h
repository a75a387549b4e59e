// What systemd, and whoever speaks as it does, hands to a daemon and is told by it: listening
// sockets that were opened before the daemon started (sd_listen_fds(3)), and when it is ready
// (sd_notify(3)).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/config/server_config.h"

namespace mlxr {

struct PassedSocket {
  int descriptor = -1;
  std::string name;  // FileDescriptorName=
  bool is_unix = false;
  std::string address;  // an IP address, or a path
  uint16_t port = 0;
};

// For HTTP there may be several, on TCP and Unix sockets; for gRPC those whose name begins so.
struct PassedSockets {
  std::vector<PassedSocket> http, grpc;
};

// The sockets that LISTEN_FDS counts, when LISTEN_PID means this process. Takes the variables out
// of the environment, so that no child takes them for its own. Call it before there are other
// threads. Throws Error{kInvalidArgument} for what is no listening stream socket of TCP or Unix.
PassedSockets take_passed_sockets();

// Settings as the sockets have them: where the daemon listens is decided by who opened them.
void apply_passed_sockets(const PassedSockets& sockets, ServerConfig& config);

// "READY=1" and the like to NOTIFY_SOCKET; nothing where nobody asked for it.
void notify_supervisor(std::string_view state);

}  // namespace mlxr
