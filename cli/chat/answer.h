// One answer of the daemon, streamed.
#pragma once

#include <functional>
#include <string>

#include "cli/client/daemon_client.h"

namespace mlxr::cli {

struct Answer {
  std::string text;
  std::string finish_reason;  // empty when it was interrupted
  int prompt_tokens = 0, cached_tokens = 0, generated_tokens = 0;
  double first_token_seconds = 0;  // from sending the request, as this program saw it
  double seconds = 0;
  bool interrupted = false;
};

// `body` is a request to `path` (/v1/chat/completions or /v1/completions) without "stream". Text
// goes to `on_text` as it comes. Throws what the daemon says when it refuses or fails.
Answer stream_answer(const DaemonClient& client, const std::string& path, Json body,
                     const std::function<void(const std::string&)>& on_text);

// Answer text on its way to the user. On a terminal control characters are left out: a model's
// answer must not move the cursor or set the window's title.
void print_text(const std::string& text);

// Why an answer that was cut ends where it does; empty for any other. `limited`: max_tokens was
// set.
std::string describe_cut(const Answer& answer, bool limited);
// "20 prompt tokens, 142 generated at 512.3 tokens/s, first after 0.03 s"
std::string describe_speed(const Answer& answer);

}  // namespace mlxr::cli
