// A read-only memory mapping of a whole file. Move-only in spirit: shared through shared_ptr, so
// that every tensor view can keep the mapping alive.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>

#include "core/base/lost_pages.h"

namespace mlxr {

class MappedFile {
 public:
  // Maps `path`. Throws Error{kNotFound} when it does not exist, Error{kIo} when the system
  // refuses, Error{kCorruptFile} when it is empty (an empty file holds no model, and cannot be
  // mapped).
  static std::shared_ptr<const MappedFile> open(const std::filesystem::path& path);

  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::filesystem::path& path() const { return path_; }

  // Takes the pages that were read out of this process's memory; the system keeps them cached as
  // long as it likes, and they come again when touched.
  void release_pages() const;

  // True when a page could not be read since it was mapped, where the program survives that
  // (lost_pages.h): what was read of this file may be zeros.
  bool lost() const { return watched_->lost(); }
  // Throws Error{kCorruptFile} then.
  void check_intact() const;

 private:
  MappedFile(std::filesystem::path path, const std::byte* data, size_t size)
      : path_(std::move(path)), data_(data), size_(size) {
    watched_.emplace(data, size);
  }

  std::filesystem::path path_;
  const std::byte* data_;
  size_t size_;
  std::optional<WatchedPages> watched_;
};

}  // namespace mlxr
