// The readers map files; this one has the fuzzer's bytes and touches no disk.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <string_view>

#include "core/formats/weight_view.h"
#include "tests/fuzz/fuzz_input.h"

namespace mlxr::fuzz {

class MemoryFile {
 public:
  MemoryFile() : file_(::memfd_create("fuzz", MFD_CLOEXEC)) {}
  ~MemoryFile() { ::close(file_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  std::filesystem::path with(std::string_view content) const {
    promise(::ftruncate(file_, 0) == 0 && ::pwrite(file_, content.data(), content.size(), 0) ==
                                              static_cast<ssize_t>(content.size()),
            "the input can be written");
    return "/proc/self/fd/" + std::to_string(file_);
  }

 private:
  int file_;
};

// Decodes all of a tensor: whatever its header said, it lies in the file.
inline void read_all(const WeightView& weight) {
  promise(row_bytes(weight.format, weight.columns()) * weight.rows() ==
              static_cast<int64_t>(weight.bytes.size()),
          "a tensor has the bytes of its shape", weight.name);
  std::vector<float> row(static_cast<size_t>(weight.columns()));
  for (int64_t i = 0; i < weight.rows(); ++i) dequantize_row(weight, i, row.data());
}

}  // namespace mlxr::fuzz
