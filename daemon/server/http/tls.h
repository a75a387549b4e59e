// TLS on the TCP sockets: the certificate and key that the settings name, checked at start, when
// somebody is there to read what is wrong with them.
#pragma once

#include <boost/asio/ssl/context.hpp>
#include <filesystem>
#include <optional>
#include <string>

#include "daemon/server/http/api_error.h"

namespace mlxr {

namespace asio = boost::asio;

struct TlsIdentity {
  std::string
      certificate;  // PEM; certificates of the authorities between it and the root follow it
  std::string key;  // PEM
};

// Nothing where both paths are empty. Throws Error{kNotFound, kInvalidArgument}: one is missing,
// the key is open to others, the two do not belong together.
std::optional<TlsIdentity> read_tls_identity(const std::filesystem::path& certificate,
                                             const std::filesystem::path& key);

// TLS 1.2 and 1.3. Throws Error{kInvalidArgument}.
asio::ssl::context server_context(const TlsIdentity& identity);

// What a handshake comes to with a client that speaks HTTP without TLS, and what to tell it.
bool is_plain_http(const boost::system::error_code& problem);
ApiError not_encrypted();

}  // namespace mlxr
