// A connection's bytes, in pieces, become requests with their bodies and routes, or an error that
// blames the client. The path of daemon/server/http/connection.cpp without its socket.
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/error.hpp>
#include <optional>

#include "daemon/server/http/gzip.h"
#include "daemon/server/http/host_guard.h"
#include "daemon/server/http/request_head.h"
#include "daemon/server/http/router.h"
#include "tests/fuzz/fuzz_input.h"

namespace mlxr::fuzz {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;

constexpr int64_t kMaxBody = 2048;

const Router& router() {
  static const Router* const made = [] {
    auto* all = new Router;  // for as long as the process
    for (const char* pattern : {"/", "/v1/models", "/v1/models/{model...}", "/v1/responses/{id}",
                                "/v1/responses/{id}/input_items", "/api/blobs/{digest}"}) {
      all->add({"GET", pattern}, nullptr);
      all->add({"POST", pattern}, nullptr);
    }
    return all;
  }();
  return *made;
}

void check(const ApiError& error) {
  promise(error.status >= 400 && error.status < 500, "what a client sends is its own mistake",
          error.message);
  promise(!to_response(error).body.empty(), "an error has a body");
}

// Where a connection's bytes come from.
struct Input {
  Pieces pieces;
  boost::beast::flat_buffer buffer;

  // As Beast's reads: until the parser has what it waits for, or the input ends.
  template <typename Done>
  error_code read(RequestParser& parser, const Done& done) {
    error_code problem;
    while (!done()) {
      const size_t used = parser.put(buffer.data(), problem);
      buffer.consume(used);
      if (problem && problem != http::error::need_more) return problem;
      if (!problem && used > 0) continue;
      problem = {};
      std::string_view piece;
      if (!pieces.next(piece)) {
        if (!parser.got_some()) return http::error::end_of_stream;
        parser.put_eof(problem);
        return problem ? problem : error_code(http::error::end_of_stream);
      }
      buffer.commit(asio::buffer_copy(buffer.prepare(piece.size()), asio::buffer(piece)));
    }
    return problem;
  }
};

void use(Request& request) {
  promise(request.path.starts_with('/'), "a path begins with a slash", request.path);
  promise(request.path.find('\0') == std::string::npos, "a path has no end inside", request.path);
  for (const auto& [name, value] : request.headers) {
    promise(name.find_first_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ\r\n") == std::string::npos,
            "a header's name is in lower case", name);
    promise(value.find_first_of("\r\n") == std::string::npos, "a header is one line", value);
  }
  router().match(request);
  refuse_foreign_host(request, {{"box.example"}, true, {"https://app.example"}});
  accepts_gzip(request.header("accept-encoding"));
}

// False when the connection ends with it.
bool read_one(Input& input) {
  RequestParser parser;
  limit_head(parser);
  parser.eager(false);
  const error_code problem = input.read(parser, [&] { return parser.is_header_done(); });
  if (problem) {
    if (const auto error = protocol_error(problem, kMaxBody)) check(*error);
    return false;
  }
  Request request;
  if (!read_head(parser, request)) {
    check(malformed_path());
    return false;
  }
  use(request);
  limit_body(parser, kMaxBody);
  parser.eager(true);
  if (const error_code cut = input.read(parser, [&] { return parser.is_done(); })) {
    if (const auto error = protocol_error(cut, kMaxBody)) check(*error);
    return false;
  }
  request.body = std::move(parser.get().body());
  promise(request.body.size() <= static_cast<size_t>(kMaxBody), "a body keeps to its limit");
  decode_body(request, kMaxBody);
  promise(request.body.size() <= static_cast<size_t>(kMaxBody), "so does an unpacked one");
  return parser.get().keep_alive();
}

}  // namespace
}  // namespace mlxr::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mlxr::fuzz;
  std::string_view text = text_of(data, size);
  const auto seed = static_cast<uint32_t>(choose(text, 256));
  Input input{Pieces(text, seed), {}};
  try {
    while (read_one(input)) {
    }
  } catch (const mlxr::RequestError& refused) {
    check(refused.error());
  }
  return 0;
}
