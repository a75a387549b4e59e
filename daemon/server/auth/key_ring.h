// The keys as a running daemon sees them: read again when their file was replaced.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <string_view>
#include <vector>

#include "daemon/server/auth/key_store.h"

namespace mlxr {

class KeyRing {
 public:
  explicit KeyRing(KeyStore store) : store_(std::move(store)) {}

  // Thread-safe. Throws Error{kIo} when the file cannot be read: nobody passes then.
  bool empty();
  // The key of which this is the secret. Takes the same time whichever it is.
  std::optional<ApiKey> find(std::string_view secret);

 private:
  // Tells one version of the file, and of its permissions, from another.
  struct Version {
    uint64_t inode = 0;
    int64_t size = -1, seconds = 0, nanoseconds = 0;
    bool operator==(const Version&) const = default;
  };
  Version version_of_file() const;
  void refresh();

  const KeyStore store_;
  std::mutex mutex_;
  std::optional<Version> seen_;
  std::vector<ApiKey> keys_;
};

}  // namespace mlxr
