// Which names a user may have meant.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace mlxr {

// Levenshtein distance in bytes.
size_t edit_distance(std::string_view a, std::string_view b);

// Up to `count` of `names` that are near `wanted` (edit distance at most half its length, or one
// holds the other), nearest first.
std::vector<std::string> nearest_names(std::string_view wanted,
                                       const std::vector<std::string>& names, size_t count);

}  // namespace mlxr
