// One request and its answer, as wire formats see them: respond once, or open a stream and write.
#pragma once

#include <functional>
#include <string>

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
};

}  // namespace mlxr
