// Messages of calls as bytes, and back.
#pragma once

#include <google/protobuf/message.h>

#include "daemon/server/grpc/call.h"
#include "daemon/server/http/api_error.h"

namespace mlxr::rpc {

// Throws RequestError.
template <typename Message>
Message read_message(const Call& call) {
  Message message;
  if (!message.ParseFromString(call.request().body)) {
    throw RequestError({400,
                        "the request is no " + std::string(message.GetTypeName()) +
                            ": it is malformed, or a string is not UTF-8",
                        "invalid_request_error", "", "invalid_message"});
  }
  return message;
}

inline Response to_response(const google::protobuf::Message& message) {
  Response response;
  response.body = message.SerializeAsString();
  return response;
}

}  // namespace mlxr::rpc
