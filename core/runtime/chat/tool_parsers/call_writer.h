// Writes the events of tool calls and of the text between them.
#pragma once

#include <string>
#include <string_view>

#include "core/runtime/chat/chat_event.h"
#include "core/runtime/chat/json_stream.h"

namespace mlxr {

class CallWriter {
 public:
  int calls() const { return calls_; }  // begun so far
  bool open() const { return open_; }

  // White space round calls is the format's, not the answer's: it is held until text follows.
  void text(std::string_view text, ChatEvents& out);

  void begin(std::string_view name, ChatEvents& out);
  // A piece of the arguments' JSON; anything but an object counts as no arguments.
  // Returns how many characters belonged to them.
  size_t arguments(std::string_view json, ChatEvents& out);
  bool arguments_done() const { return stream_.done() || stream_.broken() || odd_; }
  // Completes the arguments ("{}" where there were none).
  void end(ChatEvents& out);

  // The answer is over.
  void finish(ChatEvents& out);

  // A whole call at once. `arguments` must be a JSON object.
  void whole(std::string_view name, std::string_view arguments, ChatEvents& out);

 private:
  void put(ChatEvent::Kind kind, std::string text, ChatEvents& out);

  JsonStream stream_;
  std::string held_space_;
  int calls_ = 0;
  bool open_ = false;
  bool odd_ = false;      // the arguments are no object
  bool written_ = false;  // some arguments went out
};

}  // namespace mlxr
