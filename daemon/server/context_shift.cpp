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

}  // namespace mlxr
