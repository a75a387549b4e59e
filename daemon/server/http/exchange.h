// One request and its answer, as wire formats see them: respond once, or open a stream and write.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "daemon/server/auth/caller.h"
#include "daemon/server/http/async.h"
#include "daemon/server/http/message.h"
#include "daemon/telemetry/log.h"

namespace mlxr {

// Used on its connection's executor only.
class Exchange {
 public:
  virtual ~Exchange() = default;

  virtual const Request& request() const = 0;
  virtual Request& mutable_request() = 0;
  virtual asio::any_io_executor executor() = 0;

  // The request comes with its headers only; this reads its body, so that nobody who is refused can
  // make the server take one. False: the client is gone. Throws RequestError for a body that is too
  // large or malformed. What is answered without it ends the connection.
  virtual Task<bool> read_body() = 0;
  // The same for bodies that are too large for memory: their next piece, of any length; an empty
  // one is the end. Not together with read_body.
  virtual Task<bool> read_piece(std::string& piece) = 0;

  virtual Task<void> respond(Response response) = 0;
  // Sends status 200 and the headers of a body whose length is not known.
  virtual Task<bool> begin_stream(std::string content_type) = 0;
  // Returns when the socket took the bytes (that is the back-pressure); false: the client is gone.
  virtual Task<bool> write(std::string bytes) = 0;
  // True once headers were sent: an error can only go into the stream then.
  virtual bool started() const = 0;

  // The client closed the connection; noticed also while nothing is being written.
  virtual bool disconnected() const = 0;
  // Called once when that happens, on the executor. An empty function takes the old one away.
  virtual void on_disconnect(std::function<void()> callback) = 0;

  RequestRecord record;
  Caller caller;
  const std::chrono::steady_clock::time_point began = std::chrono::steady_clock::now();
  // Set on whatever is answered.
  std::vector<std::pair<std::string, std::string>> extra_headers;
};

}  // namespace mlxr
