// What follows the messages of a conversation in its prompt.
#pragma once

namespace mlxr {

enum class PromptEnd {
  kNewTurn,      // the beginning of the assistant's next message
  kLastMessage,  // nothing: the last message, the assistant's, is left open, and the answer goes on
  kNothing,      // nothing: the last message is complete
};

}  // namespace mlxr
