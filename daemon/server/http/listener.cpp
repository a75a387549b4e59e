#include "daemon/server/http/listener.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core/base/error.h"

namespace mlxr {
namespace fs = std::filesystem;
namespace {

using Local = asio::local::stream_protocol;
using boost::system::error_code;

int take_lock(const fs::path& socket) {
  const fs::path file = socket.string() + ".lock";
  const int descriptor = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (descriptor < 0) {
    throw Error(ErrorCode::kIo, "cannot make " + file.string() + ": " + std::strerror(errno) +
                                    "; choose another path with --socket");
  }
  if (::flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
    ::close(descriptor);
    throw Error(ErrorCode::kUnavailable,
                "another mlxrunnerd already serves " + socket.string() +
                    "; stop it with \"mlx stop\", or choose another path with --socket");
  }
  return descriptor;
}

// With the lock held nobody of ours listens there; something that answers is another program.
void remove_stale(asio::io_context& context, const fs::path& path) {
  struct stat found {};
  if (::lstat(path.c_str(), &found) != 0) {
    return;
  }
  if (!S_ISSOCK(found.st_mode)) {
    throw Error(ErrorCode::kIo, path.string() +
                                    " exists and is not a socket; remove it, or choose "
                                    "another path with --socket");
  }
  Local::socket probe(context);
  error_code problem;
  probe.connect(Local::endpoint(path.string()), problem);
  if (!problem) {
    throw Error(ErrorCode::kUnavailable, "another program already serves " + path.string() +
                                             "; choose another path with --socket");
  }
  ::unlink(path.c_str());
}

}  // namespace

asio::ip::tcp::acceptor listen_tcp(asio::io_context& context, const std::string& host,
                                   uint16_t port, const std::string& flag) {
  const std::string name = host + ":" + std::to_string(port);
  error_code problem;
  const asio::ip::address address = asio::ip::make_address(host, problem);
  if (problem) {
    throw Error(ErrorCode::kInvalidArgument, "\"" + host + "\" is not an IP address");
  }
  const asio::ip::tcp::endpoint endpoint(address, port);
  asio::ip::tcp::acceptor acceptor(context);
  acceptor.open(endpoint.protocol(), problem);
  if (!problem) {
    acceptor.set_option(asio::socket_base::reuse_address(true), problem);
    acceptor.bind(endpoint, problem);
  }
  if (!problem) {
    acceptor.listen(asio::socket_base::max_listen_connections, problem);
  }
  if (problem == asio::error::address_in_use) {
    throw Error(ErrorCode::kUnavailable, name +
                                             " is in use by another program; choose another port "
                                             "with " +
                                             flag);
  }
  if (problem) {
    throw Error(ErrorCode::kIo, "cannot listen on " + name + ": " + problem.message());
  }
  return acceptor;
}

UnixListener::UnixListener(asio::io_context& context, const fs::path& path)
    : path_(path), acceptor_(context) {
  if (path.string().size() >= sizeof(sockaddr_un::sun_path)) {
    throw Error(ErrorCode::kInvalidArgument, "the socket path " + path.string() +
                                                 " is longer than the system's " +
                                                 std::to_string(sizeof(sockaddr_un::sun_path) - 1) +
                                                 " bytes; choose a shorter one with --socket");
  }
  lock_ = take_lock(path);
  try {
    remove_stale(context, path);
    const mode_t old_mask = ::umask(0177);
    error_code problem;
    acceptor_.open(Local());
    acceptor_.bind(Local::endpoint(path.string()), problem);
    ::umask(old_mask);
    if (!problem) {
      acceptor_.listen(asio::socket_base::max_listen_connections, problem);
    }
    if (problem) {
      throw Error(ErrorCode::kIo, "cannot listen on " + path.string() + ": " + problem.message());
    }
  } catch (...) {
    ::close(lock_);
    throw;
  }
}

UnixListener::~UnixListener() {
  // The socket goes before the lock, so that nobody else's new socket is removed. The lock file
  // stays: removing it would let two daemons hold locks on two files of one name.
  ::unlink(path_.c_str());
  ::close(lock_);
}

}  // namespace mlxr
