// Ollama's "options", "format" and "keep_alive" as the fields that all APIs share.
#pragma once

#include <chrono>
#include <optional>

#include "daemon/server/json_body.h"

namespace mlxr::ollama {

// Adds what `fields` ("options", "format", "stream", "model") say to `body`, a request in OpenAI's
// shape. Options that only tune a runner are checked and have no effect here; one that is not
// known, or would change the answer and cannot be served, is refused by name.
void translate_options(const Fields& fields, Json& body);
// Of "options".
Json options_schema();

// How long the model stays after this request; negative: for ever. Nothing when the request does
// not say. Seconds as a number, or text such as "5m", "1h30m", "-1".
std::optional<std::chrono::milliseconds> read_keep_alive(const Fields& fields);

}  // namespace mlxr::ollama
