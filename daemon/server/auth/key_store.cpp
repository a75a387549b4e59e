#include "daemon/server/auth/key_store.h"

#include <sys/stat.h>
#include <unistd.h>

#ifdef __APPLE__
#include <sys/random.h>
#endif

#include <algorithm>
#include <array>
#include <cctype>
#include <chrono>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/file_lock.h"
#include "core/base/sha256.h"
#include "daemon/config/paths.h"

namespace mlxr {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kPrefix = "mlxr-";
constexpr size_t kSecretBytes = 32, kIdBytes = 6;
constexpr size_t kMaxName = 64;

bool is_hex(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

// From the system's own source: a key must not be guessable from other random numbers of ours.
std::string random_hex(size_t bytes) {
  std::array<unsigned char, kSecretBytes> random{};
  if (::getentropy(random.data(), bytes) != 0) {
    throw Error(ErrorCode::kIo, "the system gives no random numbers, so no key can be made");
  }
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (size_t i = 0; i < bytes; ++i) {
    text += kDigits[random[i] >> 4];
    text += kDigits[random[i] & 15];
  }
  return text;
}

std::string make_secret() { return std::string(kPrefix) + random_hex(kSecretBytes); }

void check_name(const std::string& name, const std::vector<ApiKey>& keys) {
  const bool plain =
      std::none_of(name.begin(), name.end(), [](unsigned char c) { return std::iscntrl(c) != 0; });
  if (name.size() > kMaxName || !plain) {
    throw Error(ErrorCode::kInvalidArgument, "a key's name must be printable and at most " +
                                                 std::to_string(kMaxName) + " bytes long");
  }
  for (const ApiKey& key : keys) {
    if ((!name.empty() && key.name == name) || key.id == name) {
      throw Error(ErrorCode::kInvalidArgument,
                  "there is already a key called \"" + name +
                      "\"; choose another name, or remove that one with mlx key rm");
    }
  }
}

// Whoever can write this file can let themselves in.
void check_permissions(const std::filesystem::path& path) {
  struct stat found {};
  if (::stat(path.c_str(), &found) == 0 && (found.st_mode & 077) != 0) {
    throw Error(ErrorCode::kIo, path.string() +
                                    " is open to other users of this machine; if you trust what it "
                                    "holds, run: chmod 600 " +
                                    path.string());
  }
}

Json to_json(const ApiKey& key) {
  return {{"id", key.id},
          {"name", key.name},
          {"sha256", key.sha256},
          {"scopes", scope_names(key.scopes)},
          {"created", key.created}};
}

ApiKey from_json(const Json& json) {
  ApiKey key{json.at("id"), json.at("name"), json.at("sha256"), {false, false}, json.at("created")};
  for (const Json& scope : json.at("scopes")) {
    key.scopes.inference = key.scopes.inference || scope == "inference";
    key.scopes.admin = key.scopes.admin || scope == "admin";
  }
  return key;
}

}  // namespace

bool looks_like_key(std::string_view text) {
  return text.starts_with(kPrefix) && text.size() == kPrefix.size() + 2 * kSecretBytes &&
         is_hex(text.substr(kPrefix.size()));
}

KeyStore::KeyStore(const std::filesystem::path& home) : path_(home / "keys.json") {}

std::vector<ApiKey> KeyStore::list() const {
  check_permissions(path_);
  std::vector<ApiKey> keys;
  std::string text;
  try {
    text = read_file(path_);
  } catch (const Error& error) {
    if (error.code() == ErrorCode::kNotFound) {
      return keys;
    }
    throw;
  }
  try {
    const Json parsed = Json::parse(text);
    for (const Json& key : parsed.at("keys")) {
      keys.push_back(from_json(key));
    }
  } catch (const Json::exception&) {
    throw Error(ErrorCode::kIo, path_.string() +
                                    " is damaged; put back a copy, or remove it and make new keys "
                                    "with mlx key create");
  }
  return keys;
}

NewKey KeyStore::create(const std::string& name, const Scopes& scopes) {
  create_private_folder(path_.parent_path());
  const FileLock lock(path_.string() + ".lock");
  std::vector<ApiKey> keys = list();
  check_name(name, keys);
  const std::string secret = make_secret();
  const int64_t now = std::chrono::duration_cast<std::chrono::seconds>(
                          std::chrono::system_clock::now().time_since_epoch())
                          .count();
  keys.push_back({"key_" + random_hex(kIdBytes), name, sha256_hex(secret), scopes, now});
  write(keys);
  return {keys.back(), secret};
}

ApiKey KeyStore::remove(const std::string& id_or_name) {
  create_private_folder(path_.parent_path());
  const FileLock lock(path_.string() + ".lock");
  std::vector<ApiKey> keys = list();
  const auto found = std::find_if(keys.begin(), keys.end(), [&](const ApiKey& key) {
    return key.id == id_or_name || (!id_or_name.empty() && key.name == id_or_name);
  });
  if (found == keys.end()) {
    throw Error(ErrorCode::kNotFound,
                "there is no key \"" + id_or_name + "\"; mlx key ls lists them");
  }
  ApiKey removed = std::move(*found);
  keys.erase(found);
  write(keys);
  return removed;
}

void KeyStore::write(const std::vector<ApiKey>& keys) const {
  Json list = Json::array();
  for (const ApiKey& key : keys) {
    list.push_back(to_json(key));
  }
  write_file_atomic(path_, Json{{"keys", std::move(list)}}.dump(2) + "\n", 0600);
}

std::vector<std::string> scope_names(const Scopes& scopes) {
  std::vector<std::string> names;
  if (scopes.inference) {
    names.emplace_back("inference");
  }
  if (scopes.admin) {
    names.emplace_back("admin");
  }
  return names;
}

}  // namespace mlxr
