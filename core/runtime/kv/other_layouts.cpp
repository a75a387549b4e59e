#include "core/runtime/kv/other_layouts.h"

#include <fcntl.h>

#include <algorithm>
#include <string>
#include <system_error>

#include "core/runtime/kv/block_files.h"
#include "core/runtime/kv/block_store.h"

namespace mlxr {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kPrefix = "size-";

fs::path aside(const fs::path& folder, int64_t block_bytes) {
  return folder / (std::string(kPrefix) + std::to_string(block_bytes));
}

int64_t bytes_of(const fs::path& file) {
  std::error_code missing;
  const auto bytes = fs::file_size(file, missing);
  return missing ? 0 : static_cast<int64_t>(bytes);
}

// A kill between the two leaves blocks that are misses: their checksums do not fit.
void move_files(const fs::path& from, const fs::path& to) {
  make_private_folder(to);
  std::error_code problem;
  for (const char* file : {"blocks", "index"}) fs::rename(from / file, to / file, problem);
}

}  // namespace

std::vector<OtherLayout> other_layouts(const fs::path& folder) {
  std::vector<OtherLayout> found;
  std::error_code missing;
  for (const auto& entry : fs::directory_iterator(folder, missing)) {
    const fs::path& of_size = entry.path();
    if (!of_size.filename().string().starts_with(kPrefix) || !entry.is_directory(missing)) continue;
    const int64_t bytes =
        bytes_of(of_size / "index") + slot_bytes_for(bytes_of(of_size / "blocks"));
    if (bytes == 0) continue;
    OtherLayout layout{.folder = of_size, .bytes = bytes, .last_use = {}};
    if (fs::exists(of_size / "index") && fs::exists(of_size / "blocks")) {
      const OpenFile index(of_size / "index", O_RDONLY), blocks(of_size / "blocks", O_RDONLY);
      if (const auto content = BlockFiles::read_index(index, blocks)) {
        layout.block_bytes = content->block_bytes;
        layout.blocks = std::ranges::count_if(content->slots, [](const auto& s) { return !!s; });
      }
      layout.last_use = fs::last_write_time(of_size / "index", missing);
    }
    found.push_back(std::move(layout));
  }
  std::ranges::sort(found, std::greater(), &OtherLayout::last_use);
  return found;
}

void remove_layout(const OtherLayout& layout) {
  std::error_code problem;
  fs::remove_all(layout.folder, problem);
}

void bring_layout(const fs::path& folder, int64_t block_bytes) {
  const fs::path index = folder / "index";
  if (bytes_of(index) > 0) {
    const auto there = BlockFiles::read_block_bytes(OpenFile(index, O_RDONLY));
    if (!there || *there == block_bytes) return;
    move_files(folder, aside(folder, *there));
  } else if (bytes_of(folder / "blocks") > 0) {
    return;
  }
  const fs::path back = aside(folder, block_bytes);
  if (!fs::exists(back / "index")) return;
  move_files(back, folder);
  std::error_code problem;
  fs::remove_all(back, problem);
}

}  // namespace mlxr
