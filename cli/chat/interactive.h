// The interactive chat of `mlx run`.
#pragma once

#include "cli/chat/conversation.h"

namespace mlxr::cli {

// Reads and answers until /bye or Ctrl-D; returns the exit status. Ctrl-C stops an answer, not the
// program.
int chat_interactively(const DaemonClient& client, Conversation conversation, bool verbose);

}  // namespace mlxr::cli
