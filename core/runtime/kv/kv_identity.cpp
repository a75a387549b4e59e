#include "core/runtime/kv/kv_identity.h"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <type_traits>
#include <vector>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/file_lock.h"
#include "core/kernels/cpu/simd_level.h"
#include "core/runtime/kv/block_files.h"
#include "mlx/version.h"

namespace mlxr {
namespace fs = std::filesystem;
namespace {

// Changes with kv_layout.h, and with whatever else makes older blocks wrong.
constexpr int32_t kLayoutVersion = 1;

class Description {
 public:
  template <class T>
  void number(T value) {
    static_assert(std::is_arithmetic_v<T>);
    text_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void text(std::string_view words) {
    number(static_cast<uint64_t>(words.size()));
    text_ += words;
  }
  std::string take() { return std::move(text_); }

 private:
  std::string text_;
};

struct SecretFile {
  HashKey key;
  uint64_t checksum = 0;
};

// Tells damage, not malice.
uint64_t checksum_of(const HashKey& key) {
  return siphash128({}, std::as_bytes(std::span(&key, 1))).low;
}

// A hash of the whole of a small file, of the beginning and samples of a large one.
BlockHash sample_of(const fs::path& path, int64_t size) {
  constexpr int64_t kSmall = 256 << 10, kSamples = 32, kSampleBytes = 4 << 10;
  const OpenFile file(path, O_RDONLY);
  std::vector<std::byte> sample(static_cast<size_t>(std::min(size, kSmall)));
  sample.resize(file.read(0, sample));
  if (size > kSmall) {
    std::array<std::byte, kSampleBytes> piece{};
    for (int64_t i = 1; i <= kSamples; ++i) {
      const size_t got = file.read((size - kSampleBytes) / kSamples * i, piece);
      sample.insert(sample.end(), piece.begin(), piece.begin() + static_cast<std::ptrdiff_t>(got));
    }
  }
  return siphash128({}, sample);
}

void add_file(Description& description, const fs::path& path) {
  const auto size = static_cast<int64_t>(fs::file_size(path));
  const BlockHash sample = sample_of(path, size);
  description.text(path.filename().string());
  description.number(size);
  description.number(static_cast<int64_t>(fs::last_write_time(path).time_since_epoch().count()));
  description.number(sample.low);
  description.number(sample.high);
}

std::vector<fs::path> files_of(const fs::path& model) {
  if (!fs::is_directory(model)) return {model};
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(model)) {
    if (entry.is_regular_file()) files.push_back(entry.path());
  }
  std::ranges::sort(files);
  return files;
}

}  // namespace

std::string kv_identity(const Model& model, const ArenaShape& shape,
                        std::span<const RopeFrequencies> ropes, const fs::path& program) {
  Description description;
  description.number(kLayoutVersion);
  description.text(kv_type_name(shape.type));
  for (int32_t count :
       {shape.layers, shape.kv_heads, shape.head_dim, shape.block_tokens, shape.window_layers}) {
    description.number(count);
  }
  for (const RopeFrequencies& rope : ropes) {
    description.number(static_cast<uint64_t>(rope.inverse.size()));
    for (double frequency : rope.inverse) description.number(frequency);
    description.number(rope.magnitude);
  }
  // Formats without a kernel of their own are computed otherwise when they are not interleaved.
  description.number(model.repacked_bytes > 0);
  description.text(cpu::simd_level());
  description.text(mlx::core::version());
  for (const fs::path& file : files_of(model.path)) add_file(description, file);
  add_file(description, program);
  return description.take();
}

FolderSecret folder_secret(const fs::path& folder) {
  const fs::path path = folder / "secret";
  const FileLock lock(folder / "lock");
  SecretFile secret;
  const auto bytes = std::as_writable_bytes(std::span(&secret, 1));
  const bool there = fs::exists(path);
  if (there) {
    const OpenFile file(path, O_RDONLY);
    const auto size = static_cast<size_t>(file.size());
    const bool whole = size <= sizeof secret && file.read(0, bytes) == size;
    if (whole && size == sizeof secret.key) return {secret.key};  // of before there was a checksum
    if (whole && size == sizeof secret && secret.checksum == checksum_of(secret.key)) {
      return {secret.key};
    }
  }
  secret.key = random_hash_key();
  secret.checksum = checksum_of(secret.key);
  write_file_atomic(path, {reinterpret_cast<const char*>(&secret), sizeof secret}, 0600);
  return {.key = secret.key, .replaced = there};
}

HashKey kv_key(const HashKey& secret, const std::string& identity) {
  const BlockHash key = siphash128(secret, std::as_bytes(std::span(identity)));
  return {key.low, key.high};
}

}  // namespace mlxr
