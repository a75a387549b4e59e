#include "daemon/scheduler/kv_folders.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <algorithm>
#include <optional>
#include <string_view>
#include <system_error>

#include "core/base/error.h"
#include "core/base/file_lock.h"
#include "core/runtime/kv/block_files.h"
#include "core/runtime/kv/kv_identity.h"
#include "core/runtime/kv/other_layouts.h"

namespace mlxr {
namespace fs = std::filesystem;
namespace {

// A model's name is the name of a file: behind a prefix it names a folder of ours and nothing else.
std::string folder_of(const std::string& name) { return "model-" + name; }

std::optional<std::string> name_of(const fs::path& folder) {
  const std::string text = folder.filename().string();
  constexpr std::string_view kPrefix = "model-";
  if (!text.starts_with(kPrefix)) return std::nullopt;
  return text.substr(kPrefix.size());
}

int64_t bytes_on_disk(const fs::path& path) {
  struct stat found {};
  return ::stat(path.c_str(), &found) == 0 ? int64_t{found.st_blocks} * 512 : 0;
}

bool is_locked(const fs::path& folder) {
  return fs::exists(folder / "lock") && !FileLock::try_take(folder / "lock");
}

// Nothing when there are no blocks.
std::optional<KvFolder> describe(const fs::path& folder, const std::string& name) {
  if (!fs::exists(folder / "index") || !fs::exists(folder / "blocks")) return std::nullopt;
  const OpenFile index(folder / "index", O_RDONLY), blocks(folder / "blocks", O_RDONLY);
  KvFolder found{.name = name,
                 .bytes = bytes_on_disk(folder / "index") + bytes_on_disk(folder / "blocks")};
  if (const auto content = BlockFiles::read_index(index, blocks)) {
    for (const auto& block : content->slots) {
      if (!block) continue;
      ++found.blocks;
      found.last_use = std::max(found.last_use, static_cast<int64_t>(block->tick / 1000));
    }
  }
  for (const OtherLayout& other : other_layouts(folder)) {
    found.blocks += other.blocks;
    found.bytes += bytes_on_disk(other.folder / "index") + bytes_on_disk(other.folder / "blocks");
  }
  found.in_use = is_locked(folder);
  return found;
}

}  // namespace

std::unique_ptr<KvDisk> open_kv_disk(OpenKvDisks& disks, Engine& engine, const std::string& name,
                                     const KvDiskSettings& settings) {
  if (!settings.enabled) return nullptr;
  try {
    make_private_folder(settings.folder);
    const FolderSecret secret = folder_secret(settings.folder);
    const auto warn = [name](const std::string& sentence) {
      spdlog::warn("model=\"{}\": {}", name, sentence);
    };
    BlockStoreOptions options{.folder = settings.folder / folder_of(name),
                              .block_bytes = engine.block_bytes(),
                              .most_bytes = settings.bytes,
                              .free_bytes = {},
                              .keep_free = 0,
                              .damaged = secret.replaced ? 1u : 0u,
                              .warn = warn};
    if (secret.replaced) {
      warn("the secret of the KV blocks in " + settings.folder.string() +
           " was damaged and is made anew; no block is found again, prompts are computed again");
    }
    use_disk_limits(options);
    const HashKey key = kv_key(secret.key, engine.kv_identity(settings.program));
    auto disk = disks.open(std::move(options), {.warn = warn});
    engine.pager().use_key(key);
    return disk;
  } catch (const std::exception& error) {
    spdlog::warn("model=\"{}\" runs without KV blocks on disk: {}", name, error.what());
    return nullptr;
  }
}

std::vector<KvFolder> list_kv_folders(const fs::path& folder) {
  std::vector<KvFolder> found;
  std::error_code missing;
  for (const auto& entry : fs::directory_iterator(folder, missing)) {
    const auto name = name_of(entry.path());
    if (!name || !entry.is_directory(missing)) continue;
    if (auto described = describe(entry.path(), *name)) found.push_back(std::move(*described));
  }
  std::ranges::sort(found, {}, &KvFolder::name);
  return found;
}

// The lock stays: were it removed, a daemon might take the old one while another takes a new one.
void remove_kv_folder(const fs::path& folder, const std::string& name) {
  const fs::path of_model = folder / folder_of(name);
  if (name.find('/') != std::string::npos || !fs::exists(of_model / "index")) {
    throw Error(ErrorCode::kNotFound,
                "there are no KV blocks of \"" + name + "\" on disk; mlx cache ls lists them");
  }
  const auto lock = FileLock::try_take(of_model / "lock");
  if (!lock) {
    throw Error(ErrorCode::kUnavailable, "a daemon uses the KV blocks of \"" + name +
                                             "\"; unload it first: mlx stop " + name);
  }
  for (const OtherLayout& other : other_layouts(of_model)) remove_layout(other);
  for (const char* file : {"index", "blocks"}) {
    std::error_code problem;
    fs::remove(of_model / file, problem);
    if (problem) {
      throw Error(ErrorCode::kIo,
                  "cannot remove " + (of_model / file).string() + ": " + problem.message());
    }
  }
}

}  // namespace mlxr
