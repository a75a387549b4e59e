// Memory for kernels' scratch: aligned to a cache line, never filled, grown but never shrunk.
#pragma once

#include <cstddef>
#include <memory>
#include <new>

namespace mlxr {

template <class T>
class AlignedBuffer {
 public:
  // At least `count` elements, what they held is lost when it must grow. Valid until the next call.
  T* at_least(size_t count) {
    if (count > size_) {
      data_.reset();
      data_.reset(static_cast<T*>(::operator new(count * sizeof(T), kAlignment)));
      size_ = count;
    }
    return data_.get();
  }

 private:
  static constexpr std::align_val_t kAlignment{64};
  struct Free {
    void operator()(T* p) const { ::operator delete(p, kAlignment); }
  };
  std::unique_ptr<T, Free> data_;
  size_t size_ = 0;
};

}  // namespace mlxr
