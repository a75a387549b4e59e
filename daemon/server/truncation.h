// A conversation without its oldest turns, for requests and models that ask for that where a prompt
// would not fit the context window ("truncation": "auto"). Nobody else's is ever touched.
#pragma once

#include <cstddef>
#include <functional>
#include <vector>

#include "daemon/server/json_body.h"

namespace mlxr {

// What may be dropped, oldest first, as indices of messages that go together: whole turns (a user's
// message and all that follows it), then of the last turn each answer that called tools, with their
// results. System messages, the last user's message and the last message of all stay.
std::vector<std::vector<size_t>> droppable_messages(const Json& messages);

struct Truncated {
  Json messages;
  size_t dropped = 0;  // messages
};

// Drops as little as `fits` allows; all that may be dropped where nothing fits.
Truncated truncate_messages(const Json& messages,
                            const std::function<bool(const Json& messages)>& fits);

}  // namespace mlxr
