// The parsers that are not JSON after a mark, for make_tool_parser.
#pragma once

#include <memory>
#include <set>
#include <string>

#include "core/runtime/chat/chat_event.h"
#include "core/runtime/chat/tool_parsers/tool_schemas.h"

namespace mlxr {

// The answer begins with a bare call object; anything else is text. Only `names` can be called.
std::unique_ptr<TextParser> bare_json_parser(std::set<std::string> names);

// "[f(a=1)]" at the answer's beginning. Only `names` can be called.
std::unique_ptr<TextParser> bare_pythonic_parser(std::set<std::string> names);
// Pythonic calls between ```tool_code and ```.
std::unique_ptr<TextParser> fenced_pythonic_parser();

// A mark, the function's name, a separator, its arguments as JSON.
std::unique_ptr<TextParser> mistral_parser();
std::unique_ptr<TextParser> deepseek_parser();

// A tag an argument, its value as bare text.
std::unique_ptr<TextParser> qwen_xml_parser(ToolSchemas schemas);
std::unique_ptr<TextParser> glm_parser(ToolSchemas schemas);

// OPEN call:NAME{key:QUOTEtextQUOTE,other:1} CLOSE
struct GemmaMarks {
  std::string open, close, quote;
};
std::unique_ptr<TextParser> gemma_parser(GemmaMarks marks);

// The whole answer of gpt-oss, reasoning included.
std::unique_ptr<TextParser> harmony_parser();

}  // namespace mlxr
