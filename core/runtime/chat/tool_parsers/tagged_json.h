// Calls written as JSON after a mark, with or without a mark at their end.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/runtime/chat/chat_event.h"

namespace mlxr {

struct TaggedJsonFormat {
  std::vector<std::string> open;
  std::string close;                 // empty: the calls run to the end of the answer
  std::vector<std::string> dropped;  // marks that mean nothing to a client
};

std::unique_ptr<TextParser> tagged_json_parser(TaggedJsonFormat format);

}  // namespace mlxr
