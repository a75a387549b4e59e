#include "core/runtime/chat/tag_finder.h"

#include <algorithm>

namespace mlxr {

std::optional<FoundTag> find_tag(std::string_view text, const std::vector<std::string>& tags) {
  std::optional<FoundTag> best;
  for (size_t i = 0; i < tags.size(); ++i) {
    const size_t begin = text.find(tags[i]);
    if (begin == std::string_view::npos) continue;
    const bool better = !best || begin < best->begin ||
                        (begin == best->begin && tags[i].size() > tags[best->tag].size());
    if (better) best = FoundTag{i, begin};
  }
  return best;
}

size_t partial_tag(std::string_view text, const std::vector<std::string>& tags) {
  size_t longest = 0;
  for (const std::string& tag : tags) {
    for (size_t size = std::min(text.size(), tag.size() - 1); size > longest; --size) {
      if (text.ends_with(std::string_view(tag).substr(0, size))) longest = size;
    }
  }
  return longest;
}

std::string take_before_tag(std::string& text, const std::vector<std::string>& tags,
                            std::optional<FoundTag>& found) {
  found = find_tag(text, tags);
  const size_t end = found ? found->begin : text.size() - partial_tag(text, tags);
  std::string before = text.substr(0, end);
  text.erase(0, found ? end + tags[found->tag].size() : end);
  return before;
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

}  // namespace mlxr
