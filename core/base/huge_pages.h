// Memory for large arrays that are streamed through: anonymous, zeroed, in huge pages where the
// system grants them. (Decode reads all weights for each token; with pages of 4 KiB the address
// look-ups are a cost of their own.)
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

namespace mlxr {

class HugePages {
 public:
  HugePages() = default;
  // Reserves `bytes`, aligned to 2 MiB; pages become real when they are touched.
  // Throws Error{kOutOfMemory} naming the size.
  explicit HugePages(size_t bytes);
  ~HugePages();
  HugePages(HugePages&& other) noexcept { swap(other); }
  HugePages& operator=(HugePages&& other) noexcept {
    swap(other);
    return *this;
  }

  uint8_t* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  void swap(HugePages& other) noexcept {
    std::swap(mapping_, other.mapping_);
    std::swap(mapped_, other.mapped_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
  }

  void* mapping_ = nullptr;
  size_t mapped_ = 0;
  uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace mlxr
