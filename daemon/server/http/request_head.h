// From what Beast's parser read to a Request, and what is wrong with it: everything of HTTP's input
// that needs no socket.
#pragma once

#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <cstdint>
#include <optional>
#include <string>

#include "daemon/server/http/api_error.h"
#include "daemon/server/http/message.h"

namespace mlxr {

using RequestParser = boost::beast::http::request_parser<boost::beast::http::string_body>;

// Limits the head. The body has no limit yet: each way of reading it sets its own.
void limit_head(RequestParser& parser);

// Fills in method, target and headers. False when the path is malformed.
bool read_head(const RequestParser& parser, Request& request);

// Before a byte of the body is read. Throws RequestError (413) when its length alone is too much.
void limit_body(RequestParser& parser, int64_t max_body);

// Unpacks a body that was sent compressed; it is limited by what it holds. Throws RequestError.
void decode_body(Request& request, int64_t max_body);

ApiError malformed_path();

// What is wrong with the HTTP itself, where the client can still be told.
std::optional<ApiError> protocol_error(const boost::system::error_code& problem, int64_t max_body);

}  // namespace mlxr
