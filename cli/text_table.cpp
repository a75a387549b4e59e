#include "cli/text_table.h"

#include <algorithm>
#include <cstdio>

namespace mlxr::cli {
namespace {

// Columns on the screen: characters, not bytes.
size_t width_of(const std::string& text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  }));
}

std::string scaled(int64_t value, const char* const* units, int count, const char* space) {
  double shown = static_cast<double>(value);
  int unit = 0;
  while (shown >= 999.5 && unit + 1 < count) {
    shown /= 1000;
    ++unit;
  }
  char text[32];
  std::snprintf(text, sizeof text, unit == 0 ? "%.0f%s%s" : "%.1f%s%s", shown, space, units[unit]);
  return text;
}

}  // namespace

std::string format_table(const std::vector<std::vector<std::string>>& rows,
                         const std::vector<size_t>& right) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width_of(row[i]));
  }
  std::string out;
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string padding(widths[i] - width_of(row[i]), ' ');
      const bool to_right = std::find(right.begin(), right.end(), i) != right.end();
      const bool last = i + 1 == row.size();
      out += to_right ? padding + row[i] : row[i] + (last ? "" : padding);
      out += last ? "\n" : "  ";
    }
  }
  return out;
}

std::string human_bytes(int64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "kB", "MB", "GB", "TB"};
  return scaled(bytes, kUnits, 5, " ");
}

std::string human_count(int64_t count) {
  static constexpr const char* kUnits[] = {"", "k", "M", "B", "T"};
  return scaled(count, kUnits, 5, "");
}

std::string human_seconds(double seconds) {
  const auto whole = static_cast<int64_t>(seconds);
  const auto pair = [](int64_t big, const char* big_unit, int64_t small, const char* small_unit) {
    return std::to_string(big) + big_unit + std::to_string(small) + small_unit;
  };
  if (whole < 60) return std::to_string(whole) + " s";
  if (whole < 3600) return pair(whole / 60, " min ", whole % 60, " s");
  if (whole < 86400) return pair(whole / 3600, " h ", whole % 3600 / 60, " min");
  return pair(whole / 86400, " d ", whole % 86400 / 3600, " h");
}

}  // namespace mlxr::cli
