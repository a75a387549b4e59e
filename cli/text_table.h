// Plain tables and numbers for people.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace mlxr::cli {

// The first row is the header. Columns are as wide as their widest cell; the last is not padded.
// Columns named in `right` (by index) are aligned to the right.
std::string format_table(const std::vector<std::vector<std::string>>& rows,
                         const std::vector<size_t>& right = {});

std::string human_bytes(int64_t bytes);     // "12.5 MB": powers of 1000, as file managers count
std::string human_count(int64_t count);     // "11.8M"
std::string human_seconds(double seconds);  // "3 min 20 s"

}  // namespace mlxr::cli
