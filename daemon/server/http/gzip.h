// gzip (RFC 1952), over the deflate that Beast brings.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace mlxr {

std::string gzip(std::string_view data);

// Nothing where the data is no gzip or damaged. Stops one byte past `limit`: a result longer than
// the limit says that there was more.
std::optional<std::string> gunzip(std::string_view data, size_t limit);

// Whether the value of Accept-Encoding allows gzip.
bool accepts_gzip(std::string_view accept_encoding);

}  // namespace mlxr
