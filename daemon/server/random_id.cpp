#include "daemon/server/random_id.h"

#include <random>
#include <string_view>

namespace mlxr {
namespace {

std::string random_text(size_t size, std::string_view characters) {
  static thread_local std::mt19937_64 random{std::random_device{}()};
  std::uniform_int_distribution<size_t> any(0, characters.size() - 1);
  std::string text;
  while (text.size() < size) {
    text += characters[any(random)];
  }
  return text;
}

}  // namespace

std::string random_id(const std::string& prefix) {
  return prefix + random_text(24, "0123456789abcdef");
}

std::string random_word(size_t size) {
  return random_text(size, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");
}

}  // namespace mlxr
