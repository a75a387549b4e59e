// SHA-256 (FIPS 180-4): of keys and names, and of files that clients send.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace mlxr {

// Takes data in pieces of any size.
class Sha256 {
 public:
  void update(std::string_view data);
  // 64 lower-case hexadecimal digits of all that came. Once.
  std::string finish();

 private:
  std::array<uint32_t, 8> hash_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::string tail_;  // less than a block
  uint64_t bytes_ = 0;
};

std::string sha256_hex(std::string_view data);

}  // namespace mlxr
