// What a connection's bytes travel over: a socket, or TLS over one. Both have the same members, so
// that a connection is one text, and a plain one pays nothing for the other.
#pragma once

#include <sys/socket.h>

#include <array>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <cerrno>
#include <cstring>
#include <utility>

#include "daemon/server/http/async.h"

namespace mlxr {

class PlainTransport {
 public:
  using Socket = boost::beast::basic_stream<asio::generic::stream_protocol>;
  static constexpr bool kEncrypted = false;
  // A client is watched until so much of its next requests has come.
  static constexpr size_t kMaxReadAhead = 1 << 20;

  explicit PlainTransport(asio::generic::stream_protocol::socket socket)
      : stream_(std::move(socket)) {}

  Socket& stream() { return stream_; }
  Socket& socket() { return stream_; }

  // Calls `done(problem)` when input was put into `buffer`, or none will ever come; once in a while
  // for nothing. Both must outlive the call. Nothing is lost when the socket is cancelled.
  template <typename Done>
  void read_ahead(boost::beast::flat_buffer& buffer, Done done) {
    stream_.socket().async_wait(
        asio::socket_base::wait_read,
        [this, &buffer, done = std::move(done)](const boost::system::error_code& problem) mutable {
          done(problem ? problem : receive(buffer));
        });
  }

 private:
  boost::system::error_code receive(boost::beast::flat_buffer& buffer) {
    std::array<char, 16384> input{};
    const ssize_t count =
        ::recv(stream_.socket().native_handle(), input.data(), input.size(), MSG_DONTWAIT);
    if (count > 0) {
      const auto room = buffer.prepare(static_cast<size_t>(count));
      std::memcpy(room.data(), input.data(), static_cast<size_t>(count));
      buffer.commit(static_cast<size_t>(count));
    }
    const bool would_block = count < 0 && (errno == EAGAIN || errno == EINTR);
    return count > 0 || would_block ? boost::system::error_code() : asio::error::eof;
  }

  Socket stream_;
};

class TlsTransport {
 public:
  using Socket = PlainTransport::Socket;
  static constexpr bool kEncrypted = true;
  // Any: with a read under way, what has come could not be looked at.
  static constexpr size_t kMaxReadAhead = 1;

  TlsTransport(asio::generic::stream_protocol::socket socket, asio::ssl::context& context)
      : stream_(std::move(socket), context) {}

  asio::ssl::stream<Socket>& stream() { return stream_; }
  Socket& socket() { return stream_.next_layer(); }

  // As PlainTransport's. Whether the peer is gone can be told by decrypting only, and a read that
  // has begun must not be cancelled if the connection is to go on.
  template <typename Done>
  void read_ahead(boost::beast::flat_buffer& buffer, Done done) {
    constexpr size_t kBytes = 16384;  // a TLS record's most
    socket().expires_never();         // of this read; each write sets its own time
    stream_.async_read_some(buffer.prepare(kBytes),
                            [&buffer, done = std::move(done)](
                                const boost::system::error_code& problem, size_t count) mutable {
                              buffer.commit(count);
                              done(problem);
                            });
  }

 private:
  asio::ssl::stream<Socket> stream_;
};

}  // namespace mlxr
