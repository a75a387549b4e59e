#include "daemon/server/auth/key_ring.h"

#include <sys/stat.h>

#include "core/base/sha256.h"

namespace mlxr {
namespace {

// Looks at every byte, wherever the first difference is.
bool equal_in_constant_time(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) {
    return false;
  }
  unsigned difference = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference |= static_cast<unsigned char>(a[i]) ^ static_cast<unsigned char>(b[i]);
  }
  return difference == 0;
}

}  // namespace

KeyRing::Version KeyRing::version_of_file() const {
  struct stat found {};
  if (::stat(store_.path().c_str(), &found) != 0) {
    return {};
  }
#ifdef __APPLE__
  const timespec changed = found.st_ctimespec;
#else
  const timespec changed = found.st_ctim;
#endif
  return {found.st_ino, found.st_size, changed.tv_sec, changed.tv_nsec};
}

void KeyRing::refresh() {
  const Version now = version_of_file();
  if (seen_ == now) {
    return;
  }
  // Forgotten first: when the new file cannot be read, the old keys must not go on.
  seen_.reset();
  keys_ = store_.list();
  seen_ = now;
}

bool KeyRing::empty() {
  const std::lock_guard lock(mutex_);
  refresh();
  return keys_.empty();
}

std::optional<ApiKey> KeyRing::find(std::string_view secret) {
  const std::string hash = sha256_hex(secret);
  const std::lock_guard lock(mutex_);
  refresh();
  std::optional<ApiKey> found;
  for (const ApiKey& key : keys_) {
    if (equal_in_constant_time(key.sha256, hash)) {
      found = key;
    }
  }
  return found;
}

}  // namespace mlxr
