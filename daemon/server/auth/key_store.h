// API keys at rest: $MLXR_HOME/keys.json, mode 0600, replaced atomically under a lock, so that the
// command line may change it while a daemon runs.
//
// Only hashes are kept. A key is 256 random bits, which nobody finds by trying: a plain SHA-256 is
// right. The slow hashes that passwords need would cost every request time and protect nothing.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/server/auth/caller.h"

namespace mlxr {

struct ApiKey {
  std::string id;      // "key_" and 12 hexadecimal digits; no secret
  std::string name;    // what its owner calls it; may be empty
  std::string sha256;  // of the key
  Scopes scopes;
  int64_t created = 0;  // unix seconds
};

struct NewKey {
  ApiKey key;
  std::string secret;  // what clients send; cannot be had again
};

// True for what make_secret could have made: it is meant as a key of this server.
bool looks_like_key(std::string_view text);

class KeyStore {
 public:
  explicit KeyStore(const std::filesystem::path& home);

  // In order of creation; none when there is no file.
  // Throws Error{kIo} when the file cannot be read, is damaged, or is open to other users.
  std::vector<ApiKey> list() const;
  // Throws Error{kInvalidArgument} for a name that is taken or not plain, Error{kIo}.
  NewKey create(const std::string& name, const Scopes& scopes);
  // By id or name; returns what was removed. Throws Error{kNotFound, kIo}.
  ApiKey remove(const std::string& id_or_name);

  const std::filesystem::path& path() const { return path_; }

 private:
  void write(const std::vector<ApiKey>& keys) const;

  std::filesystem::path path_;
};

// "inference, admin"
std::vector<std::string> scope_names(const Scopes& scopes);

}  // namespace mlxr
