// TLS over real sockets, with short limits: handshakes that are slow, half open or no handshakes.
#include "daemon/server/http/tls.h"

#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <boost/asio/connect.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/write.hpp>
#include <chrono>
#include <memory>
#include <thread>

#include "core/base/error.h"
#include "daemon/server/http/http_server.h"

namespace mlxr {
namespace {

using namespace std::chrono_literals;
using asio::ip::tcp;
using boost::system::error_code;
using Clock = std::chrono::steady_clock;

template <typename Write>
std::string pem_text(const Write& write) {
  const std::unique_ptr<BIO, decltype(&BIO_free)> memory(BIO_new(BIO_s_mem()), BIO_free);
  EXPECT_EQ(write(memory.get()), 1);
  char* data = nullptr;
  const long size = BIO_get_mem_data(memory.get(), &data);
  return {data, static_cast<size_t>(size)};
}

// A certificate that vouches for itself.
TlsIdentity make_identity() {
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(EVP_EC_gen("P-256"), EVP_PKEY_free);
  const std::unique_ptr<X509, decltype(&X509_free)> certificate(X509_new(), X509_free);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), 1);
  X509_gmtime_adj(X509_getm_notBefore(certificate.get()), -60);
  X509_gmtime_adj(X509_getm_notAfter(certificate.get()), 86400);
  X509_set_pubkey(certificate.get(), key.get());
  X509_sign(certificate.get(), key.get(), EVP_sha256());
  return {pem_text([&](BIO* to) { return PEM_write_bio_X509(to, certificate.get()); }),
          pem_text([&](BIO* to) {
            return PEM_write_bio_PrivateKey(to, key.get(), nullptr, nullptr, 0, nullptr, nullptr);
          })};
}

class TlsServerTest : public testing::Test {
 protected:
  TlsServerTest()
      : server_([this](Exchange& exchange) { return answer(exchange); }, {.max_body_bytes = 1 << 20,
                                                                          .idle_timeout = 1s,
                                                                          .body_timeout = 1s,
                                                                          .write_timeout = 1s}) {
    server_.encrypt_tcp(server_context(make_identity()));
    port_ = server_.listen_on_tcp("127.0.0.1", 0);
    server_.start();
  }

  Task<void> answer(Exchange& exchange) {
    if (co_await exchange.read_body()) {
      Response response;
      response.body = "got " + std::to_string(exchange.request().body.size());
      co_await exchange.respond(std::move(response));
    }
  }

  tcp::socket connect() {
    tcp::socket socket(context_);
    socket.connect({asio::ip::make_address("127.0.0.1"), port_});
    return socket;
  }

  // Reads until the other end closes; how long that took. Far longer than any limit here: a test
  // that waits for ever fails by its own time-out.
  std::chrono::duration<double> until_closed(tcp::socket& socket) {
    const auto began = Clock::now();
    std::array<char, 4096> scrap{};
    error_code problem;
    while (!problem) {
      socket.read_some(asio::buffer(scrap), problem);
    }
    return Clock::now() - began;
  }

  asio::io_context context_;
  asio::ssl::context client_{asio::ssl::context::tls_client};
  uint16_t port_ = 0;
  HttpServer server_;
};

TEST_F(TlsServerTest, ASilentHandshakeIsLetGo) {
  tcp::socket socket = connect();
  EXPECT_LT(until_closed(socket), 30s);
}

TEST_F(TlsServerTest, AHandshakeThatTricklesInHasOneTimeForAll) {
  tcp::socket socket = connect();
  // The head of a ClientHello of 512 bytes, of which one after another arrives.
  const std::string head("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11);
  error_code problem;
  asio::write(socket, asio::buffer(head), problem);
  const auto began = Clock::now();
  while (!problem && Clock::now() - began < 30s) {
    std::this_thread::sleep_for(50ms);
    asio::write(socket, asio::buffer("x", 1), problem);
  }
  EXPECT_TRUE(problem) << "the server waits on";
}

TEST_F(TlsServerTest, ASilentClientAfterTheHandshakeIsLetGo) {
  asio::ssl::stream<tcp::socket> stream(connect(), client_);
  stream.handshake(asio::ssl::stream_base::client);
  EXPECT_LT(until_closed(stream.next_layer()), 30s);
}

TEST_F(TlsServerTest, BetweenRequestsAClientIsLetGoToo) {
  asio::ssl::stream<tcp::socket> stream(connect(), client_);
  stream.handshake(asio::ssl::stream_base::client);
  asio::write(stream, asio::buffer(std::string("GET / HTTP/1.1\r\nHost: a\r\n\r\n")));
  std::string all;
  error_code problem;
  asio::read(stream, asio::dynamic_buffer(all), problem);
  EXPECT_TRUE(all.ends_with("got 0")) << all;
  // The end was said: it is no broken connection.
  EXPECT_EQ(problem, asio::error::eof) << problem.message();
}

TEST_F(TlsServerTest, RequestsFollowOneAnotherOnAConnection) {
  asio::ssl::stream<tcp::socket> stream(connect(), client_);
  stream.handshake(asio::ssl::stream_base::client);
  std::string all;
  error_code problem;
  for (const size_t size : {size_t{3}, size_t{300'000}, size_t{0}}) {
    const std::string body(size, 'b');
    asio::write(stream, asio::buffer("POST / HTTP/1.1\r\nContent-Length: " + std::to_string(size) +
                                     "\r\n\r\n" + body));
    const std::string wanted = "got " + std::to_string(size);
    while (!problem && !all.ends_with(wanted)) {
      std::array<char, 4096> part{};
      const size_t count = stream.read_some(asio::buffer(part), problem);
      all.append(part.data(), count);
    }
    EXPECT_TRUE(all.ends_with(wanted)) << problem.message();
  }
}

TEST_F(TlsServerTest, ARefusedBodyIsAnsweredBeforeTheEnd) {
  asio::ssl::stream<tcp::socket> stream(connect(), client_);
  stream.handshake(asio::ssl::stream_base::client);
  error_code problem;
  asio::write(stream, asio::buffer(std::string("NONSENSE\r\n\r\n") + std::string(100'000, 'x')),
              problem);
  std::string all;
  asio::read(stream, asio::dynamic_buffer(all), problem);
  EXPECT_TRUE(all.starts_with("HTTP/1.1 400")) << all;
}

TEST_F(TlsServerTest, PlainHttpIsAnsweredInPlain) {
  tcp::socket socket = connect();
  asio::write(socket, asio::buffer(std::string("GET / HTTP/1.1\r\nHost: a\r\n\r\n")));
  std::string all;
  error_code problem;
  asio::read(socket, asio::dynamic_buffer(all), problem);
  EXPECT_TRUE(all.starts_with("HTTP/1.1 400")) << all;
  EXPECT_NE(all.find("https://"), std::string::npos);
}

TEST(TlsIdentity, IsNothingWithoutFilesAndNeedsBoth) {
  EXPECT_FALSE(read_tls_identity("", ""));
  EXPECT_THROW(read_tls_identity("cert.pem", ""), Error);
  EXPECT_THROW(read_tls_identity("", "key.pem"), Error);
}

TEST(TlsIdentity, AKeyOfAnotherCertificateIsRefused) {
  TlsIdentity mixed = make_identity();
  mixed.key = make_identity().key;
  EXPECT_THROW(server_context(mixed), Error);
}

}  // namespace
}  // namespace mlxr
