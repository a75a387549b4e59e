// Fill-in-the-middle prompts: what comes between a prefix and a suffix.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/runtime/model.h"

namespace mlxr {

// True when the vocabulary has the control tokens of a known format.
bool can_fill_in(const Model& model);

// Throws RequestError (400, "suffix") when the model cannot. What looks like a control token in the
// texts stays text.
std::vector<int32_t> fill_in_prompt(const Model& model, const std::string& prefix,
                                    const std::string& suffix);

}  // namespace mlxr
