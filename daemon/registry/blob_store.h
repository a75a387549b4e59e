// Files that clients sent, named by the SHA-256 of what they hold.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "core/base/sha256.h"

namespace mlxr {

class BlobStore {
 public:
  explicit BlobStore(std::filesystem::path folder) : folder_(std::move(folder)) {}

  // Where the blob lies, or would: "sha256:" and 64 hexadecimal digits become sha256-... Throws
  // Error{kInvalidArgument} for anything else, so that no digest becomes another path.
  std::filesystem::path path(const std::string& digest) const;
  bool has(const std::string& digest) const;
  const std::filesystem::path& folder() const { return folder_; }

  // One file on its way in. What was not committed is gone.
  class Upload {
   public:
    // Throws as path(), and Error{kIo}.
    Upload(const BlobStore& store, const std::string& digest);
    ~Upload();
    Upload(const Upload&) = delete;
    Upload& operator=(const Upload&) = delete;

    void write(std::string_view piece);
    // Throws Error{kInvalidArgument} when the content is not what the digest says.
    void commit();

   private:
    const std::filesystem::path target_;
    const std::string expected_;
    std::filesystem::path part_;
    int file_ = -1;
    Sha256 hash_;
  };

 private:
  std::filesystem::path folder_;
};

}  // namespace mlxr
