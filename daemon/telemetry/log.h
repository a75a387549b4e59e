// Where the daemon's log goes, and the one line that each HTTP request leaves in it.
// Prompts, answers and secrets are never logged.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace mlxr {

// Sends spdlog's default logger to standard error, or appends to `file` (made with mode 0600).
// Throws Error{kIo} when the file cannot be opened.
void start_logging(const std::string& level, const std::optional<std::filesystem::path>& file);

// What one request was and came to. Handlers fill in what they learn.
struct RequestRecord {
  std::string id;
  std::string route;  // "POST /v1/chat/completions": the pattern, never the raw path
  int status = 0;
  std::string key;  // the API key's id, which is no secret
  std::string model;
  int32_t prompt_tokens = -1, cached_tokens = -1, generated_tokens = -1;
  std::string finish;  // "stop", "length", "cancelled", "error"
  double milliseconds = 0;
};

// "id=.. route=".." status=200 ...", absent values left out.
std::string to_log_line(const RequestRecord& record);
void log_request(const RequestRecord& record);

}  // namespace mlxr
