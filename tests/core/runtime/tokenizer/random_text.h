// Random text for property tests: words, runs of spaces, scripts, emoji, control characters.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <string_view>

namespace mlxr::testing {

inline void append_utf8(std::string& out, uint32_t code) {
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else if (code < 0x800) {
    out += static_cast<char>(0xc0 | (code >> 6));
    out += static_cast<char>(0x80 | (code & 0x3f));
  } else if (code < 0x10000) {
    out += static_cast<char>(0xe0 | (code >> 12));
    out += static_cast<char>(0x80 | ((code >> 6) & 0x3f));
    out += static_cast<char>(0x80 | (code & 0x3f));
  } else {
    out += static_cast<char>(0xf0 | (code >> 18));
    out += static_cast<char>(0x80 | ((code >> 12) & 0x3f));
    out += static_cast<char>(0x80 | ((code >> 6) & 0x3f));
    out += static_cast<char>(0x80 | (code & 0x3f));
  }
}

// Valid UTF-8 of up to `most` pieces.
inline std::string random_text(std::mt19937& random, int most) {
  static constexpr std::string_view kPieces[] = {"the",        " quick",
                                                 "Fox",        "'s",
                                                 "\n",         "\n\n",
                                                 "  ",         "    ",
                                                 "\t",         "1234",
                                                 " 7",         "3.14",
                                                 "...",        "!?",
                                                 " def f():",  "naïve",
                                                 "日本",       "語",
                                                 "Привет",     "مرحبا",
                                                 "👍🏽",   "👩‍👩‍👧",
                                                 "e\u0301",    "\u2581",
                                                 "<think>",    "</tool_call>",
                                                 "<|im_",      "end|>",
                                                 "<0x0A>",     "\r\n",
                                                 "{\"a\": 1}", "  x"};
  std::string text;
  const int count = static_cast<int>(random() % static_cast<unsigned>(most + 1));
  for (int i = 0; i < count; ++i) {
    if (random() % 4 != 0) {
      text += kPieces[random() % std::size(kPieces)];
      continue;
    }
    uint32_t code = random() % 3 == 0 ? random() % 0x110000 : random() % 0x300;
    if (code >= 0xd800 && code < 0xe000) code = 0xfffd;
    append_utf8(text, code);
  }
  return text;
}

}  // namespace mlxr::testing
