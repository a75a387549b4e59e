// Reads one setting's value from text, whatever it came from. Every function throws BadValue with
// what would have been allowed; the caller adds where the value stood.
#pragma once

#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "core/kernels/cpu/kv_layout.h"

namespace mlxr {

class BadValue : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The most that an integer setting may be, unless it says less.
inline constexpr int64_t kMaxInt = std::numeric_limits<int32_t>::max();

int64_t parse_integer(std::string_view text, int64_t lowest, int64_t highest);
double parse_number(std::string_view text, double lowest, double highest);
// Bytes: a whole number, or one with KiB, MiB, GiB, TiB (powers of 1024) or KB, MB, GB, TB (of
// 1000).
int64_t parse_bytes(std::string_view text);
std::string parse_choice(std::string_view text, const std::vector<std::string_view>& allowed);
bool parse_boolean(std::string_view text);  // true or false
KvType parse_kv_type(std::string_view text);

// The known name that `name` was probably meant to be; empty when none is near.
std::string nearest_name(std::string_view name, const std::vector<std::string>& known);

std::string join(const std::vector<std::string>& parts, std::string_view separator);

}  // namespace mlxr
