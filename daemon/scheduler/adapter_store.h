// The LoRA adapters of one loaded model: which there are, which of them are in memory, and how much
// of each the requests get that ask for none.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/runtime/adapters/adapter.h"

namespace mlxr {

inline constexpr double kMostAdapterScale = 100;

// One that a model may use.
struct AdapterSettings {
  std::string name;
  std::filesystem::path path;
  float scale = 0;  // for requests that name no adapters
};

// One that a request wants: by its number, else by its name.
struct AdapterChoice {
  std::optional<int64_t> id;
  std::string name;
  float scale = 1;
};

struct AdapterInfo {
  int64_t id = 0;
  AdapterSettings settings;
  std::shared_ptr<const Adapter> loaded;  // null: nobody has asked for it yet
};

// Thread-safe. An adapter is read when a request first wants it, and read again when its files have
// changed since; requests that run keep what they began with. While changed files cannot be read,
// as when they are being written, it stays what it was.
class AdapterStore {
 public:
  using Load = std::function<std::shared_ptr<const Adapter>(const std::filesystem::path&)>;
  // The bytes that one will take in memory; throws as Load.
  using Measure = std::function<int64_t(const std::filesystem::path&)>;

  // `model`: its name, for complaints.
  AdapterStore(std::string model, std::vector<AdapterSettings> settings, Load load,
               Measure measure);
  ~AdapterStore();

  // Their ids are 0, 1, 2... in the order in which they came; that of a removed one stays free.
  std::vector<AdapterInfo> list() const;
  int64_t memory_of(const std::filesystem::path& path) const { return measure_(path); }
  int64_t bytes() const;  // of memory

  // Those that are wanted, in the order of their ids; without a choice, the defaults. What has a
  // scale of 0 is left out. Throws Error{kNotFound} with the names that there are,
  // Error{kInvalidArgument} for one that is named twice, and as `load`.
  std::vector<ScaledAdapter> chosen(const std::optional<std::vector<AdapterChoice>>& choice);

  // Defaults from now on; 0 for those that are not named. Throws as chosen().
  void set_defaults(const std::vector<AdapterChoice>& choice);

  // Reads it, and adds it or puts it in the place of the one of its name. Throws as `load`.
  void add(const AdapterSettings& settings);
  // Requests that have it keep it. Throws Error{kNotFound} with the names that there are.
  void remove(const std::string& name);

 private:
  struct Slot;
  void insert(std::shared_ptr<Slot> slot);
  std::shared_ptr<Slot> find(const AdapterChoice& choice) const;
  std::shared_ptr<const Adapter> loaded(Slot& slot);

  const std::string model_;
  const Load load_;
  const Measure measure_;
  int64_t next_id_ = 0;  // under the mutex, as the slots
  mutable std::mutex mutex_;
  std::vector<std::shared_ptr<Slot>> slots_;
};

}  // namespace mlxr
