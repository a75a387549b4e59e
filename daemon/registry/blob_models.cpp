#include "daemon/registry/blob_models.h"

#include <algorithm>
#include <fstream>
#include <set>

#include "core/base/error.h"
#include "core/runtime/adapters/adapter.h"
#include "core/runtime/model.h"

namespace mlxr {
namespace fs = std::filesystem;
namespace {

[[noreturn]] void refuse(const std::string& why) { throw Error(ErrorCode::kInvalidArgument, why); }

bool is_gguf(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::string magic(4, '\0');
  return in.read(magic.data(), 4) && magic == "GGUF";
}

void check_file_name(const std::string& name) {
  if (name.empty() || name.front() == '.' ||
      name.find_first_of(std::string("/\\\0", 3)) != name.npos) {
    refuse("\"" + name + "\" is no plain file name");
  }
}

// Made beside its place and renamed into it, so that nobody sees a part.
void make_link(const fs::path& target, const fs::path& link) {
  const fs::path part = link.string() + ".part";
  std::error_code problem;
  fs::remove(part, problem);
  fs::create_symlink(target, part, problem);
  if (!problem) {
    fs::rename(part, link, problem);
  }
  if (problem) {
    throw Error(ErrorCode::kIo, "cannot make " + link.string() + ": " + problem.message());
  }
}

// `is_good` says whether the folder is what it shall be; `complaint` is for one that is not.
fs::path link_folder(const BlobStore& blobs, const std::map<std::string, std::string>& files,
                     bool (*is_good)(const fs::path&), const char* complaint) {
  Sha256 hash;
  for (const auto& [name, digest] : files) {
    check_file_name(name);
    hash.update(name + "\n" + digest + "\n");
  }
  const fs::path folder = blobs.folder() / ("folder-" + hash.finish());
  std::error_code problem;
  fs::create_directories(folder, problem);
  for (const auto& [name, digest] : files) {
    make_link(fs::path("..") / blobs.path(digest).filename(), folder / name);
  }
  if (!is_good(folder)) {
    fs::remove_all(folder, problem);
    refuse(complaint);
  }
  return folder;
}

fs::path link_gguf(const fs::path& blob) {
  const fs::path link = blob.string() + ".gguf";
  make_link(blob.filename(), link);
  return link;
}

void check_blobs(const BlobStore& blobs, const std::map<std::string, std::string>& files) {
  for (const auto& [name, digest] : files) {
    if (!blobs.has(digest)) {
      refuse("the file \"" + name + "\" is the blob " + digest +
             ", which is not here; POST it to /api/blobs/" + digest + " first");
    }
  }
}

bool is_inside(const fs::path& path, const fs::path& folder) {
  return path.parent_path() == folder;
}

// The blobs behind the path of a model or an adapter.
std::set<fs::path> blobs_behind(const fs::path& path) {
  std::set<fs::path> found;
  std::error_code problem;
  const auto add = [&](const fs::path& link) {
    const fs::path target = fs::read_symlink(link, problem);
    if (!problem) {
      found.insert((link.parent_path() / target).lexically_normal());
    }
  };
  if (fs::is_directory(path, problem)) {
    for (const auto& entry : fs::directory_iterator(path, problem)) {
      add(entry.path());
    }
  } else {
    add(path);
  }
  return found;
}

}  // namespace

fs::path link_blobs(const BlobStore& blobs, const std::map<std::string, std::string>& files) {
  check_blobs(blobs, files);
  if (files.size() == 1 && is_gguf(blobs.path(files.begin()->second))) {
    return link_gguf(blobs.path(files.begin()->second));
  }
  return link_folder(
      blobs, files, is_model_path,
      "these files are no model: send one .gguf file, or config.json with .safetensors files");
}

std::vector<CreatedAdapter> link_adapter_blobs(const BlobStore& blobs,
                                               const std::map<std::string, std::string>& files) {
  check_blobs(blobs, files);
  const bool all_gguf = std::all_of(files.begin(), files.end(), [&](const auto& file) {
    return is_gguf(blobs.path(file.second));
  });
  if (!all_gguf) {
    return {{"adapter", link_folder(blobs, files, is_adapter_path,
                                    "these files are no adapter: send .gguf files, or "
                                    "adapter_config.json with adapter_model.safetensors")}};
  }
  std::vector<CreatedAdapter> adapters;
  for (const auto& [name, digest] : files) {
    const std::string stem = fs::path(name).stem().string();
    adapters.push_back({stem.empty() ? "adapter" : stem, link_gguf(blobs.path(digest))});
  }
  return adapters;
}

void remove_blobs(const BlobStore& blobs, const fs::path& path,
                  const std::vector<fs::path>& others) {
  if (!is_inside(path, blobs.folder()) ||
      std::find(others.begin(), others.end(), path) != others.end()) {
    return;
  }
  std::set<fs::path> unused = blobs_behind(path);
  for (const fs::path& other : others) {
    if (is_inside(other, blobs.folder())) {
      for (const fs::path& used : blobs_behind(other)) {
        unused.erase(used);
      }
    }
  }
  std::error_code ignored;
  fs::remove_all(path, ignored);
  for (const fs::path& blob : unused) {
    if (is_inside(blob, blobs.folder())) {
      fs::remove(blob, ignored);
    }
  }
}

}  // namespace mlxr
