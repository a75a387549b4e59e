#include "daemon/server/http/tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/stat.h>

#include <boost/asio/ssl/error.hpp>

#include "core/base/error.h"
#include "core/base/file.h"

namespace mlxr {
namespace fs = std::filesystem;
namespace {

using boost::system::error_code;

[[noreturn]] void wrong(const std::string& what) { throw Error(ErrorCode::kInvalidArgument, what); }

std::string read_pem(const std::string& setting, const fs::path& path) {
  if (!fs::exists(path)) {
    throw Error(ErrorCode::kNotFound, setting + ": there is no file " + path.string());
  }
  return read_file(path);
}

// A group may read it: that is how certificates are shared with services.
void check_mode(const fs::path& key) {
  struct stat found {};
  if (::stat(key.c_str(), &found) == 0 && (found.st_mode & (S_IRWXO | S_IWGRP)) != 0) {
    wrong("tls_key: " + key.string() + " is open to others; close it with \"chmod 600 " +
          key.string() + "\"");
  }
}

// A key under a passphrase must not make a daemon ask on its terminal.
std::string no_passphrase(size_t, asio::ssl::context::password_purpose) { return ""; }

asio::ssl::context modern_context() {
  asio::ssl::context context(asio::ssl::context::tls_server);
  SSL_CTX* const native = context.native_handle();
  SSL_CTX_set_min_proto_version(native, TLS1_2_VERSION);
  SSL_CTX_set_options(native, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  SSL_CTX_set_mode(native, SSL_MODE_RELEASE_BUFFERS);  // idle connections are many
  context.set_password_callback(no_passphrase);
  return context;
}

}  // namespace

std::optional<TlsIdentity> read_tls_identity(const fs::path& certificate, const fs::path& key) {
  if (certificate.empty() && key.empty()) {
    return std::nullopt;
  }
  if (certificate.empty() || key.empty()) {
    wrong(certificate.empty() ? "tls_key is set and tls_cert is not; TLS needs both"
                              : "tls_cert is set and tls_key is not; TLS needs both");
  }
  TlsIdentity identity{read_pem("tls_cert", certificate), read_pem("tls_key", key)};
  check_mode(key);
  try {
    server_context(identity);
  } catch (const Error& error) {
    wrong(std::string(error.what()) + " (tls_cert " + certificate.string() + ", tls_key " +
          key.string() + ")");
  }
  return identity;
}

asio::ssl::context server_context(const TlsIdentity& identity) {
  asio::ssl::context context = modern_context();
  error_code problem;
  context.use_certificate_chain(asio::buffer(identity.certificate), problem);
  if (problem) {
    wrong("the TLS certificate is not a certificate in PEM: " + problem.message());
  }
  context.use_private_key(asio::buffer(identity.key), asio::ssl::context::pem, problem);
  if (problem &&
      ERR_GET_REASON(static_cast<unsigned long>(problem.value())) == X509_R_KEY_VALUES_MISMATCH) {
    wrong("the TLS key does not belong to the certificate");
  }
  if (problem) {
    wrong("the TLS key is not a private key in PEM without a passphrase: " + problem.message());
  }
  if (SSL_CTX_check_private_key(context.native_handle()) != 1) {
    ERR_clear_error();
    wrong("the TLS key does not belong to the certificate");
  }
  return context;
}

bool is_plain_http(const error_code& problem) {
  return problem.category() == asio::error::get_ssl_category() &&
         ERR_GET_REASON(static_cast<unsigned long>(problem.value())) == SSL_R_HTTP_REQUEST;
}

ApiError not_encrypted() {
  return {400, "this port speaks TLS: use https:// instead of http://", "invalid_request_error", "",
          "tls_required"};
}

}  // namespace mlxr
