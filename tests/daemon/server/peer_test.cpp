#include "daemon/server/http/peer.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>

namespace mlxr {
namespace {

using boost::asio::ip::tcp;

// What a server on `listen` sees of a client that connects to `connect`.
std::string seen_by_server(const char* listen, const char* connect) {
  boost::asio::io_context context;
  tcp::acceptor acceptor(context, {boost::asio::ip::make_address(listen), 0});
  tcp::socket client(context);
  client.connect({boost::asio::ip::make_address(connect), acceptor.local_endpoint().port()});
  tcp::socket server = acceptor.accept();
  return peer_address(server.native_handle());
}

TEST(Peer, IsTheAddressWithoutItsPort) {
  EXPECT_EQ(seen_by_server("127.0.0.1", "127.0.0.1"), "127.0.0.1");
}

TEST(Peer, UnixSocketsAndWhatIsNoSocketHaveNone) {
  std::array<int, 2> pair{};
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, pair.data()), 0);
  EXPECT_EQ(peer_address(pair[0]), "");
  ::close(pair[0]);
  ::close(pair[1]);
  EXPECT_EQ(peer_address(-1), "");
}

TEST(Peer, OfGrpc) {
  EXPECT_EQ(peer_address("ipv4:192.0.2.7:50051"), "192.0.2.7");
  EXPECT_EQ(peer_address("ipv6:%5B2001:db8::1%5D:50051"), "2001:db8::1");
  EXPECT_EQ(peer_address("ipv6:[::ffff:192.0.2.7]:50051"), "192.0.2.7");
  for (const char* other : {"", "unix:", "unix:/tmp/a.sock", "ipv4:", "ipv4:x", "ipv4:x:1"}) {
    EXPECT_EQ(peer_address(other), "") << other;
  }
}

}  // namespace
}  // namespace mlxr
