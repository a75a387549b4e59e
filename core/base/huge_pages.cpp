#include "core/base/huge_pages.h"

#include <sys/mman.h>

#include <string>

#include "core/base/error.h"

namespace mlxr {

HugePages::HugePages(size_t bytes) : size_(bytes) {
  constexpr size_t kHuge = size_t{2} << 20;
  if (bytes == 0) return;
  mapped_ = bytes + kHuge;  // room to begin at a multiple of a huge page
  mapping_ = ::mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping_ == MAP_FAILED) {
    mapping_ = nullptr;
    throw Error(ErrorCode::kOutOfMemory,
                "cannot reserve " + std::to_string(bytes >> 20) + " MiB of memory");
  }
  const auto address = reinterpret_cast<uintptr_t>(mapping_);
  data_ = static_cast<uint8_t*>(mapping_) + (kHuge - address % kHuge) % kHuge;
#ifdef MADV_HUGEPAGE
  ::madvise(data_, size_, MADV_HUGEPAGE);  // a wish: the kernel may not offer them
#endif
}

HugePages::~HugePages() {
  if (mapping_ != nullptr) ::munmap(mapping_, mapped_);
}

}  // namespace mlxr
