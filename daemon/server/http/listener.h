// Opens the sockets that the daemon listens on, with errors that say what to do.
#pragma once

#include <boost/asio/basic_socket_acceptor.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <cstdint>
#include <filesystem>
#include <string>

namespace mlxr {

namespace asio = boost::asio;

// Throws Error{kUnavailable} when the port is taken, saying that `flag` changes it, and Error{kIo}
// for any other failure.
asio::ip::tcp::acceptor listen_tcp(asio::io_context& context, const std::string& host,
                                   uint16_t port, const std::string& flag = "--port");

// A Unix socket with mode 0600 and the lock that makes it ours: of two daemons started at once one
// gets it, and what a killed daemon left behind is replaced.
class UnixListener {
 public:
  // Throws Error{kUnavailable} when a daemon already serves this path, Error{kIo} otherwise.
  UnixListener(asio::io_context& context, const std::filesystem::path& path);
  // Removes the socket file.
  ~UnixListener();
  UnixListener(const UnixListener&) = delete;
  UnixListener& operator=(const UnixListener&) = delete;

  asio::local::stream_protocol::acceptor& acceptor() { return acceptor_; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  int lock_ = -1;
  asio::local::stream_protocol::acceptor acceptor_;
};

}  // namespace mlxr
