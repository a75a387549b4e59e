// Reads tool calls written as JSON: {"name": ..., "arguments": {...}} in any order of members and
// under any of the names that models use, or an array of such objects.
#pragma once

#include <set>
#include <string>
#include <string_view>

#include "core/runtime/chat/tool_parsers/call_writer.h"

namespace mlxr {

class JsonCallReader {
 public:
  // `names`: where not empty, only calls of these functions are calls, and a member that no call
  // has breaks the reading at once (for formats whose calls are not marked).
  explicit JsonCallReader(std::set<std::string> names = {}) : names_(std::move(names)) {}

  // Returns how many characters belong to the value.
  size_t push(std::string_view text, CallWriter& writer, ChatEvents& out);
  bool done() const { return state_ == State::kDone; }
  bool broken() const { return state_ == State::kBroken; }
  // Everything that was read, for a reading that broke before it found a call.
  const std::string& raw() const { return raw_; }

 private:
  enum class State {
    kStart,
    kElement,       // in an array: an object must follow
    kAfterElement,  // ',' or ']'
    kKey,           // a key or '}'
    kColon,
    kName,
    kArguments,
    kOther,        // a member that does not matter
    kAfterMember,  // ',' or '}'
    kDone,
    kBroken,
  };
  size_t take(std::string_view text, CallWriter& writer, ChatEvents& out);
  void take_structure(char c, CallWriter& writer, ChatEvents& out);
  void begin_key();
  void begin_member();
  void end_object(CallWriter& writer, ChatEvents& out);
  size_t take_value(std::string_view text);
  size_t take_arguments(std::string_view text, CallWriter& writer, ChatEvents& out);
  void end_member(CallWriter& writer, ChatEvents& out);
  void read_name();
  void name_known(CallWriter& writer, ChatEvents& out);

  std::set<std::string> names_;
  State state_ = State::kStart;
  JsonStream value_;
  std::string value_text_;  // of a key, a name, or arguments that came before the name
  std::string key_, name_, early_arguments_, raw_;
  bool in_array_ = false, streaming_ = false;
};

}  // namespace mlxr
