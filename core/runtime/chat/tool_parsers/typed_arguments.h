// Arguments as their schema types them: models write {"days": "2"} where an integer is wanted.
#pragma once

#include <memory>

#include "core/runtime/chat/chat_event.h"
#include "core/runtime/chat/tool_parsers/tool_schemas.h"

namespace mlxr {

// What `parser` gives, but a string that is the value of an argument whose schema does not allow
// strings becomes what its text says, where that fits the schema. Such a string is held until it
// is whole; everything else passes at once.
std::unique_ptr<TextParser> with_typed_arguments(std::unique_ptr<TextParser> parser,
                                                 ToolSchemas schemas);

}  // namespace mlxr
