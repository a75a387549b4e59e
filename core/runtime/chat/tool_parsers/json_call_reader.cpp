#include "core/runtime/chat/tool_parsers/json_call_reader.h"

#include <nlohmann/json.hpp>

#include "core/runtime/chat/tag_finder.h"

namespace mlxr {
namespace {

using Json = nlohmann::ordered_json;

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
bool is_name_key(const std::string& key) {
  return key == "name" || key == "tool_name" || key == "function";
}
bool is_arguments_key(const std::string& key) {
  return key == "arguments" || key == "parameters" || key == "args";
}
bool is_harmless_key(const std::string& key) {
  return key == "type" || key == "id" || key == "tool_call_id";
}

// Arguments that came whole: an object, or the text of one in a string.
std::string as_object(const std::string& json) {
  Json value = Json::parse(json, nullptr, false);
  if (value.is_string()) return value.get<std::string>();
  return value.is_object() ? json : "";
}

}  // namespace

size_t JsonCallReader::push(std::string_view text, CallWriter& writer, ChatEvents& out) {
  size_t taken = 0;
  while (taken < text.size() && !done() && !broken()) {
    const size_t step = take(text.substr(taken), writer, out);
    raw_ += text.substr(taken, step);
    taken += step;
  }
  return taken;
}

size_t JsonCallReader::take(std::string_view text, CallWriter& writer, ChatEvents& out) {
  if (state_ == State::kArguments) {
    const size_t taken = take_arguments(text, writer, out);
    if (state_ != State::kArguments || taken > 0) return taken;
  }
  if (state_ == State::kName || state_ == State::kOther || state_ == State::kArguments ||
      (state_ == State::kKey && !value_.empty())) {
    const size_t taken = take_value(text);
    if (value_.done()) end_member(writer, out);
    return taken;
  }
  if (!is_space(text.front())) take_structure(text.front(), writer, out);
  if (state_ == State::kKey && text.front() == '"') {
    take_value(text.substr(0, 1));
  }
  return broken() ? 0 : 1;
}

void JsonCallReader::take_structure(char c, CallWriter& writer, ChatEvents& out) {
  switch (state_) {
    case State::kStart:
      in_array_ = c == '[';
      if (in_array_) {
        state_ = State::kElement;
        return;
      }
      [[fallthrough]];
    case State::kElement:
      if (c == '{') {
        begin_key();
      } else {
        state_ = in_array_ && c == ']' ? State::kDone : State::kBroken;
      }
      return;
    case State::kAfterElement:
      state_ = c == ',' ? State::kElement : c == ']' ? State::kDone : State::kBroken;
      return;
    case State::kKey:
      if (c == '}') {
        end_object(writer, out);
      } else if (c != '"') {
        state_ = State::kBroken;
      }
      return;
    case State::kColon:
      if (c == ':') {
        begin_member();
      } else {
        state_ = State::kBroken;
      }
      return;
    case State::kAfterMember:
      if (c == '}') {
        end_object(writer, out);
      } else if (c == ',') {
        begin_key();
      } else {
        state_ = State::kBroken;
      }
      return;
    default:
      state_ = State::kBroken;
  }
}

void JsonCallReader::begin_key() {
  state_ = State::kKey;
  value_ = {};
  value_text_.clear();
}

void JsonCallReader::begin_member() {
  value_ = {};
  value_text_.clear();
  streaming_ = false;
  state_ = is_name_key(key_)        ? State::kName
           : is_arguments_key(key_) ? State::kArguments
                                    : State::kOther;
  const bool strict = !names_.empty();
  if (state_ == State::kOther && strict && !is_harmless_key(key_)) state_ = State::kBroken;
}

size_t JsonCallReader::take_value(std::string_view text) {
  const size_t taken = value_.push(text, value_text_);
  if (value_.broken()) state_ = State::kBroken;
  return taken;  // up to where it broke, or the pieces of the text would make a difference
}

// Streams while the function is known and its arguments are an object; 0 where they must be read
// whole.
size_t JsonCallReader::take_arguments(std::string_view text, CallWriter& writer, ChatEvents& out) {
  if (name_.empty() || !value_.empty()) return 0;
  if (!streaming_) {
    if (is_space(text.front())) return 1;
    if (text.front() != '{') return 0;
    streaming_ = true;
  }
  const size_t taken = writer.arguments(text, out);
  if (writer.arguments_done()) state_ = State::kAfterMember;
  return taken;
}

void JsonCallReader::end_member(CallWriter& writer, ChatEvents& out) {
  const State member = state_;
  state_ = State::kAfterMember;
  if (member == State::kKey) {
    key_ = Json::parse(value_text_).get<std::string>();
    state_ = State::kColon;
  } else if (member == State::kName) {
    read_name();
    name_known(writer, out);
  } else if (member == State::kArguments) {
    early_arguments_ = as_object(value_text_);
    if (!name_.empty()) writer.arguments(early_arguments_, out);
  }
}

// "function" may also hold both: {"function": {"name": ..., "arguments": ...}}.
void JsonCallReader::read_name() {
  const Json value = Json::parse(value_text_, nullptr, false);
  const auto name_of = [](const Json& name) {
    return std::string(trimmed(name.get_ref<const std::string&>()));
  };
  if (value.is_string()) name_ = name_of(value);
  if (!value.is_object()) return;
  for (const auto& [key, member] : value.items()) {
    if (is_name_key(key) && member.is_string()) name_ = name_of(member);
    if (is_arguments_key(key)) early_arguments_ = as_object(member.dump());
  }
}

void JsonCallReader::name_known(CallWriter& writer, ChatEvents& out) {
  if (name_.empty() || (!names_.empty() && !names_.contains(name_))) {
    state_ = State::kBroken;
    return;
  }
  writer.begin(name_, out);
  if (!early_arguments_.empty()) writer.arguments(early_arguments_, out);
}

void JsonCallReader::end_object(CallWriter& writer, ChatEvents& out) {
  if (name_.empty()) {
    state_ = State::kBroken;
    return;
  }
  writer.end(out);
  name_.clear();
  early_arguments_.clear();
  state_ = in_array_ ? State::kAfterElement : State::kDone;
}

}  // namespace mlxr
