#include "core/runtime/chat/tool_parsers/call_writer.h"

#include <algorithm>
#include <utility>

#include "core/runtime/chat/tag_finder.h"

namespace mlxr {

void CallWriter::put(ChatEvent::Kind kind, std::string text, ChatEvents& out) {
  out.push_back({kind, std::move(text), calls_ > 0 ? calls_ - 1 : 0});
}

void CallWriter::text(std::string_view text, ChatEvents& out) {
  const size_t last = text.find_last_not_of(" \t\r\n");
  if (last == std::string_view::npos) {
    held_space_ += text;
    return;
  }
  std::string shown = std::exchange(held_space_, std::string(text.substr(last + 1)));
  shown += text.substr(0, last + 1);
  put(ChatEvent::Kind::kText, std::move(shown), out);
}

void CallWriter::begin(std::string_view name, ChatEvents& out) {
  if (open_) end(out);
  held_space_.clear();
  stream_ = {};
  odd_ = written_ = false;
  open_ = true;
  ++calls_;
  put(ChatEvent::Kind::kCall, std::string(trimmed(name)), out);
}

size_t CallWriter::arguments(std::string_view json, ChatEvents& out) {
  if (odd_) return 0;
  size_t taken = 0;
  if (stream_.empty()) {
    taken = std::min(json.find_first_not_of(" \t\r\n"), json.size());
    json.remove_prefix(taken);
    odd_ = !json.empty() && json.front() != '{';
    if (odd_ || json.empty()) return taken;
  }
  std::string valid;
  taken += stream_.push(json, valid);
  if (!valid.empty()) {
    written_ = true;
    put(ChatEvent::Kind::kArguments, std::move(valid), out);
  }
  return taken;
}

void CallWriter::end(ChatEvents& out) {
  if (!open_) return;
  const std::string rest = written_ ? stream_.close() : "{}";
  if (!rest.empty()) put(ChatEvent::Kind::kArguments, rest, out);
  put(ChatEvent::Kind::kCallEnd, "", out);
  open_ = false;
}

void CallWriter::finish(ChatEvents& out) {
  end(out);
  if (calls_ == 0 && !held_space_.empty()) {
    put(ChatEvent::Kind::kText, std::exchange(held_space_, {}), out);
  }
}

void CallWriter::whole(std::string_view name, std::string_view arguments, ChatEvents& out) {
  begin(name, out);
  this->arguments(arguments, out);
  end(out);
}

}  // namespace mlxr
