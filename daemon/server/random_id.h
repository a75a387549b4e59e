// Identifiers that clients see.
#pragma once

#include <string>

namespace mlxr {

// `prefix` and 24 random hexadecimal digits.
std::string random_id(const std::string& prefix);
// `size` random letters and digits.
std::string random_word(size_t size);

}  // namespace mlxr
