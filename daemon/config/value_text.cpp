#include "daemon/config/value_text.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>

#include "core/base/nearest_names.h"

namespace mlxr {
namespace {

std::string range_text(int64_t lowest, int64_t highest) {
  if (highest == std::numeric_limits<int64_t>::max() ||
      highest == std::numeric_limits<int32_t>::max()) {
    return "a whole number from " + std::to_string(lowest) + " up";
  }
  return "a whole number from " + std::to_string(lowest) + " to " + std::to_string(highest);
}

std::string short_number(double value) {
  std::array<char, 32> text{};
  const auto end = std::to_chars(text.data(), text.data() + text.size(), value).ptr;
  return {text.data(), end};
}

struct Unit {
  std::string_view suffix;
  double bytes;
};

constexpr std::array<Unit, 9> kUnits{{{"KiB", 1024.0},
                                      {"MiB", 1048576.0},
                                      {"GiB", 1073741824.0},
                                      {"TiB", 1099511627776.0},
                                      {"KB", 1e3},
                                      {"MB", 1e6},
                                      {"GB", 1e9},
                                      {"TB", 1e12},
                                      {"B", 1.0}}};

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) {
    return std::tolower(static_cast<unsigned char>(x)) ==
           std::tolower(static_cast<unsigned char>(y));
  });
}

}  // namespace

int64_t parse_integer(std::string_view text, int64_t lowest, int64_t highest) {
  int64_t value = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (problem != std::errc() || end != text.data() + text.size() || value < lowest ||
      value > highest) {
    throw BadValue(range_text(lowest, highest));
  }
  return value;
}

double parse_number(std::string_view text, double lowest, double highest) {
  double value = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = problem == std::errc() && end == text.data() + text.size();
  if (!whole || !std::isfinite(value) || value < lowest || value > highest) {
    throw BadValue("a number from " + short_number(lowest) + " to " + short_number(highest));
  }
  return value;
}

int64_t parse_bytes(std::string_view text) {
  const BadValue bad("a size such as 2GiB, 512MiB or a whole number of bytes");
  double value = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (problem != std::errc() || !(value >= 0)) {
    throw bad;
  }
  std::string_view suffix(end, static_cast<size_t>(text.data() + text.size() - end));
  while (suffix.starts_with(' ')) {
    suffix.remove_prefix(1);
  }
  double unit = 1;
  if (!suffix.empty()) {
    const auto found = std::find_if(kUnits.begin(), kUnits.end(), [&](const Unit& known) {
      return equal_ignoring_case(suffix, known.suffix);
    });
    if (found == kUnits.end()) {
      throw bad;
    }
    unit = found->bytes;
  }
  const double bytes = value * unit;
  if (bytes != std::floor(bytes) && unit == 1) {
    throw bad;
  }
  if (bytes >= 9.0e18) {
    throw bad;
  }
  return static_cast<int64_t>(bytes);
}

std::string parse_choice(std::string_view text, const std::vector<std::string_view>& allowed) {
  if (std::find(allowed.begin(), allowed.end(), text) == allowed.end()) {
    throw BadValue("one of " + join({allowed.begin(), allowed.end()}, ", "));
  }
  return std::string(text);
}

bool parse_boolean(std::string_view text) {
  return parse_choice(text, {"true", "false"}) == "true";
}

KvType parse_kv_type(std::string_view text) {
  std::vector<std::string_view> names;
  for (const KvTypeName& entry : kKvTypes) names.push_back(entry.name);
  return *kv_type_of(parse_choice(text, names));
}

std::string nearest_name(std::string_view name, const std::vector<std::string>& known) {
  size_t best = std::max<size_t>(2, name.size() / 3) + 1;
  std::string found;
  for (const std::string& candidate : known) {
    const size_t distance = edit_distance(name, candidate);
    if (distance < best) {
      best = distance;
      found = candidate;
    }
  }
  return found;
}

std::string join(const std::vector<std::string>& parts, std::string_view separator) {
  std::string text;
  for (const std::string& part : parts) {
    if (!text.empty()) {
      text += separator;
    }
    text += part;
  }
  return text;
}

}  // namespace mlxr
