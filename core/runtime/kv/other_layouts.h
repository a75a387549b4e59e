// KV blocks of a model that are of another size than those in use, as after a change of kv_type.
// They lie beside those in use, each size in a folder of its own, until their size is in use again.
// Everything here is for who holds the lock of the model's folder.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

namespace mlxr {

struct OtherLayout {
  std::filesystem::path folder;  // with files as block_files.h says
  int64_t block_bytes = 0;
  int64_t blocks = 0, bytes = 0;
  std::filesystem::file_time_type last_use;
};

// The one used last comes first.
std::vector<OtherLayout> other_layouts(const std::filesystem::path& folder);
void remove_layout(const OtherLayout& layout);

// Before the folder's files are opened: puts those aside that are of another size, and brings back
// those of this one. What is damaged stays where it is.
void bring_layout(const std::filesystem::path& folder, int64_t block_bytes);

}  // namespace mlxr
