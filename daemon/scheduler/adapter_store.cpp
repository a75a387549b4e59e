#include "daemon/scheduler/adapter_store.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <map>
#include <system_error>

#include "core/base/error.h"

namespace mlxr {
namespace {

namespace fs = std::filesystem;

// Changes with the files of an adapter.
struct Stamp {
  fs::file_time_type newest = fs::file_time_type::min();
  uintmax_t bytes = 0;
  bool operator==(const Stamp&) const = default;

  void add(const fs::path& file) {
    std::error_code error;
    const auto time = fs::last_write_time(file, error);
    const auto size = fs::file_size(file, error);
    if (error) return;
    newest = std::max(newest, time);
    bytes += size;
  }
};

Stamp stamp_of(const fs::path& path) {
  Stamp stamp;
  std::error_code error;
  if (!fs::is_directory(path, error)) {
    stamp.add(path);
    return stamp;
  }
  for (const auto& entry : fs::directory_iterator(path, error)) stamp.add(entry.path());
  return stamp;
}

}  // namespace

struct AdapterStore::Slot {
  int64_t id = 0;
  AdapterSettings settings;  // under the store's mutex, as `adapter`
  std::shared_ptr<const Adapter> adapter;
  std::mutex loading;  // held while its files are read: others wait, other adapters do not
  Stamp stamp;
};

AdapterStore::AdapterStore(std::string model, std::vector<AdapterSettings> settings, Load load,
                           Measure measure)
    : model_(std::move(model)), load_(std::move(load)), measure_(std::move(measure)) {
  for (const AdapterSettings& one : settings) {
    const auto slot = std::make_shared<Slot>();
    slot->settings = one;
    insert(slot);
  }
}

AdapterStore::~AdapterStore() = default;

std::vector<AdapterInfo> AdapterStore::list() const {
  const std::lock_guard lock(mutex_);
  std::vector<AdapterInfo> out;
  for (const auto& slot : slots_) out.push_back({slot->id, slot->settings, slot->adapter});
  return out;
}

int64_t AdapterStore::bytes() const {
  int64_t sum = 0;
  for (const AdapterInfo& info : list()) sum += info.loaded ? info.loaded->bytes : 0;
  return sum;
}

// Throws Error{kNotFound} with the names that there are.
std::shared_ptr<AdapterStore::Slot> AdapterStore::find(const AdapterChoice& choice) const {
  const std::lock_guard lock(mutex_);
  std::string names;
  for (const auto& slot : slots_) {
    if (choice.id ? slot->id == *choice.id : slot->settings.name == choice.name) return slot;
    names += (names.empty() ? "" : ", ") + slot->settings.name;
  }
  throw Error(ErrorCode::kNotFound,
              "the model \"" + model_ + "\" has no adapter " +
                  (choice.id ? "number " + std::to_string(*choice.id) : "\"" + choice.name + "\"") +
                  (names.empty() ? "; it has none: list them in its settings file, under "
                                   "\"adapters\""
                                 : "; it has: " + names));
}

std::shared_ptr<const Adapter> AdapterStore::loaded(Slot& slot) {
  const std::lock_guard loading(slot.loading);
  std::unique_lock lock(mutex_);
  const fs::path path = slot.settings.path;
  const std::string name = slot.settings.name;
  auto adapter = slot.adapter;
  lock.unlock();
  const Stamp stamp = stamp_of(path);
  // One whose files are gone stays what it was.
  if (adapter && (slot.stamp == stamp || stamp == Stamp())) return adapter;
  try {
    adapter = load_(path);
  } catch (const Error& error) {
    if (!adapter) throw;
    spdlog::warn(
        "model=\"{}\": the adapter \"{}\" stays what it was: its files have changed, and {}",
        model_, name, error.what());
    slot.stamp = stamp;  // read again when they change once more
    return adapter;
  }
  slot.stamp = stamp;
  lock.lock();
  slot.adapter = adapter;
  return adapter;
}

std::vector<ScaledAdapter> AdapterStore::chosen(
    const std::optional<std::vector<AdapterChoice>>& choice) {
  std::map<int64_t, std::pair<std::shared_ptr<Slot>, float>> wanted;
  if (choice) {
    for (const AdapterChoice& one : *choice) {
      const auto slot = find(one);
      if (!wanted.insert({slot->id, {slot, one.scale}}).second) {
        throw Error(ErrorCode::kInvalidArgument, "the adapter number " + std::to_string(slot->id) +
                                                     " is named twice; name it once, with the "
                                                     "scale that it shall have");
      }
    }
  } else {
    const std::lock_guard lock(mutex_);
    for (const auto& slot : slots_) wanted[slot->id] = {slot, slot->settings.scale};
  }
  std::vector<ScaledAdapter> out;
  for (const auto& [id, slot_and_scale] : wanted) {
    const auto& [slot, scale] = slot_and_scale;
    if (scale != 0) out.push_back({loaded(*slot), scale});
  }
  return out;
}

void AdapterStore::set_defaults(const std::vector<AdapterChoice>& choice) {
  chosen(choice);  // they can be read
  std::map<int64_t, float> scales;
  for (const AdapterChoice& one : choice) scales[find(one)->id] = one.scale;
  const std::lock_guard lock(mutex_);
  for (const auto& slot : slots_) {
    const auto scale = scales.find(slot->id);
    slot->settings.scale = scale == scales.end() ? 0 : scale->second;
  }
}

void AdapterStore::add(const AdapterSettings& settings) {
  const auto slot = std::make_shared<Slot>();
  slot->settings = settings;
  loaded(*slot);
  insert(slot);
}

void AdapterStore::remove(const std::string& name) {
  const auto slot = find({.id = {}, .name = name});
  const std::lock_guard lock(mutex_);
  std::erase(slots_, slot);
}

void AdapterStore::insert(std::shared_ptr<Slot> slot) {
  const std::lock_guard lock(mutex_);
  for (auto& old : slots_) {
    if (old->settings.name != slot->settings.name) continue;
    slot->id = old->id;
    old = std::move(slot);
    return;
  }
  slot->id = next_id_++;
  slots_.push_back(std::move(slot));
}

}  // namespace mlxr
