#include "daemon/server/http/request_head.h"

#include <boost/beast/core/error.hpp>
#include <boost/beast/http/error.hpp>
#include <cctype>
#include <charconv>
#include <limits>

#include "daemon/server/http/gzip.h"

namespace mlxr {
namespace {

namespace beast = boost::beast;
namespace http = beast::http;

constexpr uint32_t kMaxHeaderBytes = 64 << 10;
// Boost 1.74 takes boost::none for a limit of nothing.
constexpr uint64_t kNoLimit = std::numeric_limits<uint64_t>::max();

ApiError too_large(int64_t max_body) {
  return {413,
          "the request body is larger than " + std::to_string(max_body) +
              " bytes (setting max_body_bytes)",
          "invalid_request_error", "", "body_too_large"};
}

}  // namespace

void limit_head(RequestParser& parser) {
  parser.header_limit(kMaxHeaderBytes);
  parser.body_limit(kNoLimit);
}

bool read_head(const RequestParser& parser, Request& request) {
  const http::request<http::string_body>& message = parser.get();
  request.method = std::string(message.method_string());
  for (const auto& field : message) {
    std::string name(field.name_string());
    for (char& c : name) {
      c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    }
    request.headers[name] = std::string(field.value());
  }
  const beast::string_view target = message.target();
  return parse_target({target.data(), target.size()}, request);
}

void limit_body(RequestParser& parser, int64_t max_body) {
  // Beast has checked the number. Its own content_length() looks uninitialised to g++ 12 under
  // AddressSanitizer.
  const beast::string_view text = parser.get()[beast::http::field::content_length];
  uint64_t length = 0;
  std::from_chars(text.data(), text.data() + text.size(), length);
  if (length > static_cast<uint64_t>(max_body)) {
    throw RequestError(too_large(max_body));
  }
  parser.body_limit(static_cast<uint64_t>(max_body));
}

void decode_body(Request& request, int64_t max_body) {
  const std::string_view encoding = request.header("content-encoding");
  if (encoding.empty() || encoding == "identity") {
    return;
  }
  if (encoding != "gzip" && encoding != "x-gzip") {
    throw RequestError({415,
                        "the request body's Content-Encoding is \"" + std::string(encoding) +
                            "\"; this server reads gzip and identity",
                        "invalid_request_error", "", "unsupported_encoding"});
  }
  auto plain = gunzip(request.body, static_cast<size_t>(max_body));
  if (!plain) {
    throw RequestError(
        {400, "the request body is not valid gzip", "invalid_request_error", "", "invalid_gzip"});
  }
  if (plain->size() > static_cast<size_t>(max_body)) {
    throw RequestError(too_large(max_body));
  }
  request.body = std::move(*plain);
}

ApiError malformed_path() {
  return {400, "the request's path is malformed", "invalid_request_error", "", ""};
}

std::optional<ApiError> protocol_error(const boost::system::error_code& problem, int64_t max_body) {
  if (problem == http::error::body_limit) {
    return too_large(max_body);
  }
  if (problem == http::error::header_limit || problem == http::error::buffer_overflow) {
    return ApiError{431, "the request's headers are too large", "invalid_request_error", "", ""};
  }
  const bool about_http =
      problem.category() == http::make_error_code(http::error::bad_method).category();
  if (about_http && problem != http::error::end_of_stream &&
      problem != http::error::partial_message) {
    return ApiError{400, "this is not a valid HTTP request: " + problem.message(),
                    "invalid_request_error", "", ""};
  }
  return std::nullopt;
}

}  // namespace mlxr
