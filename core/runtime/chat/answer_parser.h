// The parser for one answer: reasoning first, then text and tool calls in the model's format.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include <nlohmann/json.hpp>

#include "core/runtime/chat/reasoning.h"
#include "core/runtime/chat/tool_parsers/tool_parser.h"

namespace mlxr {

struct AnswerSyntax {
  ToolFormat tools = ToolFormat::kNone;
  nlohmann::ordered_json tool_list = nullptr;  // OpenAI's array; null: calls are not looked for
  std::optional<ReasoningTags> reasoning;
  bool begins_in_reasoning = false;  // the prompt ends with the opening tag
  std::string opening;               // what the prompt already says of the answer: a forced call
};

// The syntax of the answers of a model with this chat template. `has_token(text)` tells whether the
// vocabulary has a token of that text.
template <typename HasToken>
AnswerSyntax syntax_of_template(std::string_view template_source, const HasToken& has_token) {
  AnswerSyntax syntax;
  syntax.tools = find_tool_format(template_source);
  syntax.reasoning = find_reasoning_tags(template_source);
  for (const ReasoningTags& tags : known_reasoning_tags()) {
    if (!syntax.reasoning && has_token(tags.open) && has_token(tags.close)) syntax.reasoning = tags;
  }
  if (syntax.tools == ToolFormat::kHarmony) syntax.reasoning.reset();
  return syntax;
}

std::unique_ptr<TextParser> make_answer_parser(const AnswerSyntax& syntax);

}  // namespace mlxr
