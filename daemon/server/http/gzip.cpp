#include "daemon/server/http/gzip.h"

#include <algorithm>
#include <array>
#include <boost/beast/zlib/deflate_stream.hpp>
#include <boost/beast/zlib/inflate_stream.hpp>
#include <cctype>
#include <cstdint>

namespace mlxr {
namespace {

namespace zlib = boost::beast::zlib;
using boost::system::error_code;

constexpr size_t kHeadSize = 10, kTailSize = 8;
constexpr size_t kOutputStep = 64 << 10;
constexpr int kLevel = 6, kWindowBits = 15, kMemoryLevel = 8;
enum HeadFlag : unsigned { kHeadCrc = 2, kExtra = 4, kName = 8, kComment = 16, kReserved = 0xe0 };

uint32_t crc32(std::string_view data) {
  static const std::array<uint32_t, 256> kTable = [] {
    std::array<uint32_t, 256> table{};
    for (uint32_t i = 0; i < table.size(); ++i) {
      uint32_t value = i;
      for (int bit = 0; bit < 8; ++bit) {
        value = (value & 1) != 0 ? value >> 1 ^ 0xedb88320 : value >> 1;
      }
      table[i] = value;
    }
    return table;
  }();
  uint32_t crc = 0xffffffff;
  for (const char c : data) {
    crc = kTable[(crc ^ static_cast<uint8_t>(c)) & 0xff] ^ crc >> 8;
  }
  return ~crc;
}

void append_word(std::string& bytes, uint32_t word) {
  for (int shift = 0; shift < 32; shift += 8) {
    bytes += static_cast<char>(word >> shift & 0xff);
  }
}

uint32_t word_at(std::string_view data, size_t at) {
  uint32_t word = 0;
  for (size_t i = 0; i < 4; ++i) {
    word |= uint32_t{static_cast<uint8_t>(data[at + i])} << (8 * i);
  }
  return word;
}

// Past the zero that ends a text.
bool skip_text(std::string_view& data) {
  const size_t end = data.find('\0');
  if (end == std::string_view::npos) {
    return false;
  }
  data.remove_prefix(end + 1);
  return true;
}

bool skip_bytes(std::string_view& data, size_t count) {
  if (data.size() < count) {
    return false;
  }
  data.remove_prefix(count);
  return true;
}

bool skip_head(std::string_view& data) {
  if (data.size() < kHeadSize || !data.starts_with("\x1f\x8b\x08")) {
    return false;
  }
  const unsigned flags = static_cast<uint8_t>(data[3]);
  data.remove_prefix(kHeadSize);
  if ((flags & kExtra) != 0) {
    if (data.size() < 2) {
      return false;
    }
    const size_t size = static_cast<uint8_t>(data[0]) | size_t{static_cast<uint8_t>(data[1])} << 8;
    if (!skip_bytes(data, 2 + size)) {
      return false;
    }
  }
  return (flags & kReserved) == 0 && ((flags & kName) == 0 || skip_text(data)) &&
         ((flags & kComment) == 0 || skip_text(data)) &&
         ((flags & kHeadCrc) == 0 || skip_bytes(data, 2));
}

std::string_view trimmed_lower(std::string_view text, std::string& storage) {
  storage.clear();
  for (const char c : text) {
    if (c != ' ' && c != '\t') {
      storage += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    }
  }
  return storage;
}

}  // namespace

std::string gzip(std::string_view data) {
  std::string result("\x1f\x8b\x08\0\0\0\0\0\0\xff", kHeadSize);
  zlib::deflate_stream deflate;
  deflate.reset(kLevel, kWindowBits, kMemoryLevel, zlib::Strategy::normal);
  result.resize(kHeadSize + deflate.upper_bound(data.size()));
  zlib::z_params params;
  params.next_in = data.data();
  params.avail_in = data.size();
  params.next_out = result.data() + kHeadSize;
  params.avail_out = result.size() - kHeadSize;
  error_code problem;
  deflate.write(params, zlib::Flush::finish, problem);
  result.resize(kHeadSize + params.total_out);
  append_word(result, crc32(data));
  append_word(result, static_cast<uint32_t>(data.size()));
  return result;
}

std::optional<std::string> gunzip(std::string_view data, size_t limit) {
  if (!skip_head(data)) {
    return std::nullopt;
  }
  zlib::inflate_stream inflate;
  zlib::z_params params;
  params.next_in = data.data();
  params.avail_in = data.size();
  std::string result;
  error_code problem;
  while (problem != zlib::error::end_of_stream) {
    const size_t before = result.size();
    const size_t room = std::min(kOutputStep, limit + 1 - before);
    result.resize(before + room);
    params.next_out = result.data() + before;
    params.avail_out = room;
    problem = {};
    inflate.write(params, zlib::Flush::sync, problem);
    result.resize(before + room - params.avail_out);
    if (result.size() > limit) {
      return result;
    }
    const bool stuck = params.avail_in == 0 && params.avail_out > 0;
    const bool failed =
        problem && problem != zlib::error::end_of_stream && problem != zlib::error::need_buffers;
    if (failed || (stuck && problem != zlib::error::end_of_stream)) {
      return std::nullopt;
    }
  }
  const std::string_view tail = data.substr(data.size() - params.avail_in);
  const bool whole = tail.size() == kTailSize && word_at(tail, 0) == crc32(result) &&
                     word_at(tail, 4) == static_cast<uint32_t>(result.size());
  return whole ? std::optional(std::move(result)) : std::nullopt;
}

bool accepts_gzip(std::string_view accept_encoding) {
  std::string storage;
  while (!accept_encoding.empty()) {
    const size_t comma = std::min(accept_encoding.find(','), accept_encoding.size());
    const std::string_view one = trimmed_lower(accept_encoding.substr(0, comma), storage);
    accept_encoding.remove_prefix(std::min(comma + 1, accept_encoding.size()));
    if (one == "gzip" || one == "*" ||
        (one.starts_with("gzip;q=") && one.find_first_of("123456789") != std::string_view::npos)) {
      return true;
    }
  }
  return false;
}

}  // namespace mlxr
