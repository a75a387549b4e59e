#include "daemon/server/supervisor.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "core/base/error.h"
#include "daemon/config/settings.h"

namespace mlxr {
namespace {

constexpr int kFirstDescriptor = 3;  // SD_LISTEN_FDS_START
constexpr int kMostSockets = 64;

std::optional<int> number_of(const char* text) {
  if (text == nullptr) {
    return std::nullopt;
  }
  int value = 0;
  const char* const end = text + std::strlen(text);
  const auto read = std::from_chars(text, end, value);
  return read.ec == std::errc() && read.ptr == end ? std::optional(value) : std::nullopt;
}

std::string take_variable(const char* name) {
  const char* const value = std::getenv(name);
  std::string taken = value == nullptr ? "" : value;
  ::unsetenv(name);
  return taken;
}

// "a::b" has an empty name in the middle.
std::vector<std::string> names_in(const std::string& text) {
  std::vector<std::string> names;
  size_t begin = 0;
  while (begin <= text.size()) {
    const size_t end = std::min(text.find(':', begin), text.size());
    names.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return names;
}

[[noreturn]] void refuse(int descriptor, const std::string& name, const std::string& what) {
  throw Error(ErrorCode::kInvalidArgument,
              "the passed socket " + std::to_string(descriptor) +
                  (name.empty() ? "" : " (" + name + ")") + " " + what +
                  "; give mlxrunnerd listening stream sockets of TCP or Unix (ListenStream=, "
                  "Accept=no)");
}

int option_of(int descriptor, int option) {
  int value = -1;
  socklen_t size = sizeof value;
  return ::getsockopt(descriptor, SOL_SOCKET, option, &value, &size) == 0 ? value : -1;
}

void read_ip(const void* address, int family, PassedSocket& socket) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  ::inet_ntop(family, address, text.data(), text.size());
  socket.address = text.data();
}

void read_address(PassedSocket& socket) {
  sockaddr_storage storage{};
  socklen_t size = sizeof storage;
  if (::getsockname(socket.descriptor, reinterpret_cast<sockaddr*>(&storage), &size) != 0) {
    refuse(socket.descriptor, socket.name, std::string("has no address: ") + std::strerror(errno));
  }
  if (storage.ss_family == AF_INET) {
    const auto& ip = reinterpret_cast<const sockaddr_in&>(storage);
    read_ip(&ip.sin_addr, AF_INET, socket);
    socket.port = ntohs(ip.sin_port);
  } else if (storage.ss_family == AF_INET6) {
    const auto& ip = reinterpret_cast<const sockaddr_in6&>(storage);
    read_ip(&ip.sin6_addr, AF_INET6, socket);
    socket.port = ntohs(ip.sin6_port);
  } else if (storage.ss_family == AF_UNIX) {
    const auto& local = reinterpret_cast<const sockaddr_un&>(storage);
    const size_t length = size - offsetof(sockaddr_un, sun_path);
    socket.is_unix = true;
    socket.address.assign(local.sun_path, ::strnlen(local.sun_path, length));
    if (socket.address.empty()) {
      refuse(socket.descriptor, socket.name, "has no path in the file system");
    }
  } else {
    refuse(socket.descriptor, socket.name, "is neither TCP nor Unix");
  }
}

PassedSocket read_socket(int descriptor, std::string name) {
  ::fcntl(descriptor, F_SETFD, FD_CLOEXEC);
  PassedSocket socket{descriptor, std::move(name)};
  if (option_of(descriptor, SO_TYPE) != SOCK_STREAM || option_of(descriptor, SO_ACCEPTCONN) != 1) {
    refuse(descriptor, socket.name, "is not a listening stream socket");
  }
  read_address(socket);
  return socket;
}

}  // namespace

PassedSockets take_passed_sockets() {
  const std::optional<int> pid = number_of(std::getenv("LISTEN_PID"));
  const std::optional<int> count = number_of(std::getenv("LISTEN_FDS"));
  const std::vector<std::string> names = names_in(take_variable("LISTEN_FDNAMES"));
  ::unsetenv("LISTEN_PID");
  ::unsetenv("LISTEN_FDS");
  PassedSockets passed;
  if (pid != ::getpid() || !count || *count < 1) {
    return passed;
  }
  if (*count > kMostSockets) {
    throw Error(ErrorCode::kInvalidArgument, "LISTEN_FDS is " + std::to_string(*count) +
                                                 "; at most " + std::to_string(kMostSockets) +
                                                 " sockets can be passed");
  }
  for (int i = 0; i < *count; ++i) {
    const auto place = static_cast<size_t>(i);
    PassedSocket socket =
        read_socket(kFirstDescriptor + i, place < names.size() ? names[place] : "");
    (socket.name.starts_with("grpc") ? passed.grpc : passed.http).push_back(std::move(socket));
  }
  return passed;
}

void apply_passed_sockets(const PassedSockets& sockets, ServerConfig& config) {
  bool has_host = false;
  for (const PassedSocket& socket : sockets.http) {
    if (socket.is_unix) {
      config.socket = socket.address;
      continue;
    }
    // Of several addresses the one that lets others in counts: it needs keys.
    if (!has_host || !is_loopback_address(socket.address)) {
      config.host = socket.address;
      config.port = socket.port;
    }
    has_host = true;
  }
  for (const PassedSocket& socket : sockets.grpc) {
    if (!socket.is_unix) {
      config.grpc_port = socket.port;
      config.require_api_key = config.require_api_key || !is_loopback_address(socket.address);
    }
  }
}

void notify_supervisor(std::string_view state) {
  const char* const path = std::getenv("NOTIFY_SOCKET");
  sockaddr_un address{};
  if (path == nullptr || (path[0] != '/' && path[0] != '@') ||
      std::strlen(path) >= sizeof address.sun_path) {
    return;
  }
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path, std::strlen(path));
  if (path[0] == '@') {
    address.sun_path[0] = '\0';  // a name that is in no file system
  }
  const int socket = ::socket(AF_UNIX, SOCK_DGRAM, 0);
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + std::strlen(path));
  // Nobody is left to tell when this fails.
  [[maybe_unused]] const ssize_t sent = ::sendto(socket, state.data(), state.size(), 0,
                                                 reinterpret_cast<const sockaddr*>(&address), size);
  ::close(socket);
}

}  // namespace mlxr
