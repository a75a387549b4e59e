// The formats in which model families write tool calls, each read by a TextParser of its own.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "core/runtime/chat/chat_event.h"

namespace mlxr {

enum class ToolFormat {
  kNone,
  kHermes,     // <tool_call>{"name": ..., "arguments": {...}}</tool_call>: Qwen, Granite 4
  kQwenXml,    // <tool_call><function=NAME><parameter=KEY>VALUE</parameter></function></tool_call>
  kGlm,        // <tool_call>NAME<arg_key>K</arg_key><arg_value>V</arg_value></tool_call>
  kLlamaJson,  // the bare object, with "parameters"; after <|python_tag|> or not
  kLlamaPythonic,  // [f(a=1), g(b="x")]
  kMistral,        // [TOOL_CALLS][{...}] or [TOOL_CALLS]NAME[ARGS]{...}
  kDeepSeek,       // <｜tool▁call▁begin｜>...<｜tool▁sep｜>...<｜tool▁call▁end｜>
  kGemmaCode,      // ```tool_code with pythonic calls
  kGemmaFunction,  // <start_function_call>call:NAME{key:<escape>text<escape>}<end_function_call>
  kGemmaCall,      // <|tool_call>call:NAME{key:<|"|>text<|"|>}<tool_call|>
  kPhi,            // <|tool_call|>[{...}]<|/tool_call|>
  kPhiFunctools,   // functools[{...}]
  kGranite,        // <|tool_call|>[{...}] or <tool_call>[{...}], to the end
  kCommandR,       // <|START_ACTION|>[{"tool_name": ..., "parameters": {...}}]<|END_ACTION|>
  kCommandRPlus,   // Action: ```json [{"tool_name": ...}] ```
  kHarmony,        // gpt-oss: channels for reasoning, calls and the answer
  kMistralNamed,   // kMistral whose model was trained on the second spelling
};

// What a chat template's text says of the format that its model was trained on.
ToolFormat find_tool_format(std::string_view template_source);

// True where the format's marks are control tokens, which must then appear in the text.
bool marks_are_control_tokens(ToolFormat format);

// A call's identifier must have nine letters or digits (Mistral's templates check that).
bool wants_short_call_ids(ToolFormat format);

// What the answer begins with when a call of `name` (empty: of any function) is forced; empty where
// a call of this format cannot be begun without knowing its name.
std::string call_opening(ToolFormat format, std::string_view name);

// `tools` is OpenAI's array; types of arguments are read from it where the format has none.
std::unique_ptr<TextParser> make_tool_parser(ToolFormat format,
                                             const nlohmann::ordered_json& tools);

}  // namespace mlxr
