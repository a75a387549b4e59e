// What every target does with its bytes, and how it says that a promise was broken.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

namespace mlxr::fuzz {

// Takes the first byte for a choice among `count` things.
inline size_t choose(std::string_view& input, size_t count) {
  if (input.empty()) return 0;
  const auto chosen = static_cast<unsigned char>(input.front()) % count;
  input.remove_prefix(1);
  return chosen;
}

// Cuts text into pieces of up to 16 bytes whose lengths follow from a seed.
class Pieces {
 public:
  Pieces(std::string_view text, uint32_t seed) : rest_(text), state_(seed * 2654435761U + 1) {}

  bool next(std::string_view& piece) {
    if (rest_.empty()) return false;
    state_ = state_ * 1664525U + 1013904223U;
    piece = rest_.substr(0, 1 + (state_ >> 24) % 16);
    rest_.remove_prefix(piece.size());
    return true;
  }
  std::string_view rest() const { return rest_; }

 private:
  std::string_view rest_;
  uint32_t state_;
};

// Ends the run as libFuzzer wants it: the input that led here is kept.
inline void promise(bool kept, const char* what, std::string_view seen = {}) {
  if (kept) return;
  std::fprintf(stderr, "broken promise: %s\n%.*s\n", what, static_cast<int>(seen.size()),
               seen.data());
  std::abort();
}

inline std::string_view text_of(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

}  // namespace mlxr::fuzz
