// The server over real sockets, with short limits: clients that are slow, silent or half gone.
#include "daemon/server/http/http_server.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <thread>

namespace mlxr {
namespace {

using namespace std::chrono_literals;

Response hello(std::string body) { return {200, "text/plain", std::move(body), {}}; }

class ServerTest : public testing::Test {
 protected:
  explicit ServerTest(const HttpLimits& limits)
      : server_([this](Exchange& exchange) { return answer(exchange); }, limits) {
    port_ = server_.listen_on_tcp("127.0.0.1", 0);
    server_.start();
  }

  // Says what came in; /stream writes until it cannot.
  Task<void> answer(Exchange& exchange) {
    const std::string path = exchange.request().path;
    if (path == "/stream") {
      bool alive = co_await exchange.begin_stream("text/plain");
      while (alive) {
        alive = co_await exchange.write(std::string(1 << 20, 'x'));
      }
      stream_ended_ = true;
      co_return;
    }
    if (path == "/pieces") {
      size_t bytes = 0;
      std::string piece;
      while (co_await exchange.read_piece(piece) && !piece.empty()) {
        bytes += piece.size();
      }
      co_await exchange.respond(hello(std::to_string(bytes)));
      co_return;
    }
    if (co_await exchange.read_body()) {
      co_await exchange.respond(hello("got " + std::to_string(exchange.request().body.size())));
    }
  }

  uint16_t port_ = 0;
  std::atomic<bool> stream_ended_{false};
  HttpServer server_;
};

class PatientServerTest : public ServerTest {
 protected:
  PatientServerTest() : ServerTest(HttpLimits()) {}
};

class ImpatientServerTest : public ServerTest {
 protected:
  ImpatientServerTest()
      : ServerTest({.max_body_bytes = 100000,
                    .idle_timeout = 1s,
                    .body_timeout = 1s,
                    .write_timeout = 1s}) {}
};

class Client {
 public:
  explicit Client(uint16_t port) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    // Longer than any limit under test: a server that never gives up fails the test here.
    const timeval longest{60, 0};
    ::setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &longest, sizeof longest);
  }
  ~Client() { ::close(socket_); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  bool send(std::string_view data) {
    return ::send(socket_, data.data(), data.size(), MSG_NOSIGNAL) ==
           static_cast<ssize_t>(data.size());
  }
  // Everything until the server closes; "timeout" if it does not.
  std::string read_all() {
    std::string all;
    char part[4096];
    while (true) {
      const ssize_t count = ::recv(socket_, part, sizeof part, 0);
      if (count < 0 && errno == EINTR) {  // the process was stopped for a moment
        continue;
      }
      if (count < 0 && errno == ECONNRESET) {
        return all;
      }
      if (count < 0) {
        return "timeout";
      }
      if (count == 0) {
        return all;
      }
      all.append(part, static_cast<size_t>(count));
    }
  }

 private:
  int socket_;
};

TEST_F(ImpatientServerTest, ASilentClientIsLetGo) {
  Client client(port_);
  EXPECT_EQ(client.read_all(), "");
}

TEST_F(ImpatientServerTest, HeadersThatTrickleInHaveOneTimeForAll) {
  Client client(port_);
  ASSERT_TRUE(client.send("GET / HTTP/1.1\r\nHost: localhost\r\n"));
  // Each line alone comes in time; together they do not.
  const auto began = std::chrono::steady_clock::now();
  while (client.send("X-Slow: 1\r\n") && std::chrono::steady_clock::now() - began < 30s) {
    std::this_thread::sleep_for(50ms);
  }
  EXPECT_LT(std::chrono::steady_clock::now() - began, 30s);
}

TEST_F(ImpatientServerTest, ABodyThatDoesNotComeEndsTheConnection) {
  Client client(port_);
  ASSERT_TRUE(client.send("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nabc"));
  EXPECT_EQ(client.read_all(), "");
  Client pieces(port_);
  ASSERT_TRUE(pieces.send("POST /pieces HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc"));
  EXPECT_EQ(pieces.read_all(), "");
}

TEST_F(ImpatientServerTest, AClientThatReadsNothingDoesNotHoldAStream) {
  Client client(port_);
  ASSERT_TRUE(client.send("GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n"));
  const auto began = std::chrono::steady_clock::now();
  while (!stream_ended_ && std::chrono::steady_clock::now() - began < 60s) {
    std::this_thread::sleep_for(10ms);
  }
  EXPECT_TRUE(stream_ended_);
}

TEST_F(PatientServerTest, LongBodiesComeInPieces) {
  Client client(port_);
  const std::string body(3 << 20, 'b');
  ASSERT_TRUE(client.send("POST /pieces HTTP/1.1\r\nConnection: close\r\nContent-Length: " +
                          std::to_string(body.size()) + "\r\n\r\n"));
  ASSERT_TRUE(client.send(body));
  EXPECT_TRUE(client.read_all().ends_with(std::to_string(body.size())));
  Client chunked(port_);
  ASSERT_TRUE(
      chunked.send("POST /pieces HTTP/1.1\r\nConnection: close\r\n"
                   "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"));
  EXPECT_TRUE(chunked.read_all().ends_with("\r\n\r\n7"));
}

TEST_F(PatientServerTest, AfterPiecesTheConnectionIsKept) {
  Client client(port_);
  ASSERT_TRUE(
      client.send("POST /pieces HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"
                  "GET / HTTP/1.1\r\nConnection: close\r\n\r\n"));
  const std::string all = client.read_all();
  EXPECT_NE(all.find("\r\n\r\n3HTTP/1.1 200 OK"), std::string::npos);
  EXPECT_TRUE(all.ends_with("got 0"));
}

}  // namespace
}  // namespace mlxr
