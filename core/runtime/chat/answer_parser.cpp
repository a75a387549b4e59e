#include "core/runtime/chat/answer_parser.h"

#include <utility>

namespace mlxr {

std::unique_ptr<TextParser> make_answer_parser(const AnswerSyntax& syntax) {
  auto parser = make_tool_parser(syntax.tools, syntax.tool_list);
  if (syntax.reasoning && syntax.opening.empty()) {
    parser = reasoning_parser(*syntax.reasoning, syntax.begins_in_reasoning, std::move(parser));
  }
  return parser;
}

}  // namespace mlxr
