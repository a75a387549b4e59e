// What a model's answer says, taken apart while it is generated: text, reasoning and tool calls.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace mlxr {

struct ChatEvent {
  enum class Kind {
    kText,
    kReasoning,
    kCall,       // a call begins; `text` is the function's name
    kArguments,  // a fragment of its arguments; joined, they are one valid JSON object
    kCallEnd,    // always follows kCall, also when the answer was cut
  };
  Kind kind = Kind::kText;
  std::string text;
  int call = 0;  // number of the call in the answer, from 0
};

using ChatEvents = std::vector<ChatEvent>;

// Reads text in pieces of any size; the events do not depend on where it was split.
class TextParser {
 public:
  virtual ~TextParser() = default;
  virtual void push(std::string_view text, ChatEvents& out) = 0;
  // The answer is over: closes what is open, gives back what was held.
  virtual void finish(ChatEvents& out) = 0;
};

}  // namespace mlxr
