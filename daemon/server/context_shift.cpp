#include "daemon/server/context_shift.h"

#include <algorithm>

namespace mlxr {

std::optional<ContextShift> context_shift(const ServedModel& model,
                                          const openai::RequestOptions& options,
                                          const std::function<PromptOpening()>& opening) {
  const bool unless_told = model.shifts().value_or(options.shift_by_default);
  if (!options.shift.value_or(unless_told)) {
    return std::nullopt;
  }
  const PromptOpening found = opening();
  const int32_t keep = options.keep.value_or(found.system);
  return ContextShift{keep < 0 ? -1 : std::max(keep, found.bos)};
}

void shift_prompt(std::vector<int32_t>& tokens, const ContextShift& shift, int64_t window) {
  if (shift.keep < 0 || window < 2) {
    return;
  }
  const auto keep = static_cast<size_t>(std::min<int64_t>(shift.keep, window - 2));
  while (static_cast<int64_t>(tokens.size()) >= window) {
    const DroppedTokens dropped = dropped_by_shift(tokens.size(), keep);
    const auto first = tokens.begin() + static_cast<std::ptrdiff_t>(dropped.begin);
    tokens.erase(first, first + static_cast<std::ptrdiff_t>(dropped.count));
  }
}

}  // namespace mlxr
