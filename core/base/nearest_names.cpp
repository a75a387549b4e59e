#include "core/base/nearest_names.h"

#include <algorithm>
#include <numeric>

namespace mlxr {

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row[b.size()];
}

std::vector<std::string> nearest_names(std::string_view wanted,
                                       const std::vector<std::string>& names, size_t count) {
  std::vector<std::pair<size_t, std::string>> near;
  for (const std::string& name : names) {
    const size_t distance = edit_distance(wanted, name);
    const bool holds =
        name.find(wanted) != std::string::npos || wanted.find(name) != std::string_view::npos;
    if (holds || distance <= wanted.size() / 2) near.emplace_back(holds ? 0 : distance, name);
  }
  std::sort(near.begin(), near.end());
  std::vector<std::string> out;
  for (size_t i = 0; i < std::min(count, near.size()); ++i) out.push_back(near[i].second);
  return out;
}

}  // namespace mlxr
