// Splits what a model thinks from what it says.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "core/runtime/chat/chat_event.h"

namespace mlxr {

struct ReasoningTags {
  std::string open, close;
};

// The tags that a chat template's text knows.
std::optional<ReasoningTags> find_reasoning_tags(std::string_view template_source);
// All tags that are known, for models whose template does not mention theirs.
const std::vector<ReasoningTags>& known_reasoning_tags();

// Text between the tags becomes reasoning, the rest goes to `rest`. Only reasoning that the answer
// begins with is split out: later tags are text that the model writes about. `begins_inside`: the
// prompt has opened it already.
std::unique_ptr<TextParser> reasoning_parser(ReasoningTags tags, bool begins_inside,
                                             std::unique_ptr<TextParser> rest);

}  // namespace mlxr
