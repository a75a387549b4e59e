#include "daemon/server/field_log.h"

namespace mlxr {
namespace {

// Readers are plain functions, called from many places; handing a log through them all for the sake
// of a test would be worse.
thread_local FieldLog* current = nullptr;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Both ways of writing one: "messages[2].role" and Anthropic's "messages.2.role".
std::string without_indexes(const std::string& path) {
  std::string plain;
  for (size_t i = 0; i < path.size(); ++i) {
    const bool dotted = path[i] == '.' && i + 1 < path.size() && is_digit(path[i + 1]);
    if (path[i] != '[' && !dotted) {
      plain += path[i];
      continue;
    }
    while (i + 1 < path.size() && is_digit(path[i + 1])) {
      ++i;
    }
    i += path[i + 1] == ']' ? 1 : 0;
    plain += "[]";
  }
  return plain;
}

}  // namespace

FieldLog::FieldLog() { current = this; }
FieldLog::~FieldLog() { current = nullptr; }

void FieldLog::note(const std::string& path) {
  if (current != nullptr) {
    current->paths_.insert(without_indexes(path));
  }
}

FieldLog::Pause::Pause() : paused_(current) { current = nullptr; }
FieldLog::Pause::~Pause() { current = paused_; }

}  // namespace mlxr
