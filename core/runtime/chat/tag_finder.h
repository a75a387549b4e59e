// Finds tags in a stream of text, and tells which end of the text may still become one.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mlxr {

struct FoundTag {
  size_t tag = 0;  // index into the tags
  size_t begin = 0;
};

// The tag that begins first in `text`; of two that begin together, the longer.
std::optional<FoundTag> find_tag(std::string_view text, const std::vector<std::string>& tags);

// How many bytes at the end of `text` are the beginning of a tag.
size_t partial_tag(std::string_view text, const std::vector<std::string>& tags);

// Takes away what comes before a tag (or before what may become one) and returns it.
std::string take_before_tag(std::string& text, const std::vector<std::string>& tags,
                            std::optional<FoundTag>& found);

std::string_view trimmed(std::string_view text);

}  // namespace mlxr
