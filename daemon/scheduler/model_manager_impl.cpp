#include "daemon/scheduler/model_manager_impl.h"

#include <spdlog/spdlog.h>

#include <algorithm>

#include "core/base/system_memory.h"
#include "daemon/scheduler/file_stamp.h"
#include "daemon/scheduler/load_refusal.h"

namespace mlxr {
namespace {

using Clock = ModelManager::Clock;
using ServedPtr = std::shared_ptr<ServedModel>;
using std::chrono::milliseconds;

// That a load waits for models which leave to be gone.
constexpr std::chrono::seconds kLongestLeave{60};
// Between two looks at the clock, which may be a test's.
constexpr milliseconds kShortestLook{1}, kLongestLook{60000};

}  // namespace

CatalogSources ModelManager::Impl::sources() const {
  // The first model that the user named, else the built-in one; add_path never changes it.
  const auto& named = options.model_paths;
  const std::string preferred = !named.empty()          ? model_name(named.front())
                                : options.default_model ? model_name(*options.default_model)
                                                        : "";
  return {.paths = paths,
          .folders = options.model_folders,
          .builtin = options.default_model,
          .created = options.created_models ? options.created_models() : std::vector<ModelEntry>(),
          .default_name = preferred};
}

std::vector<ModelManager::Impl::SlotPtr> ModelManager::Impl::ready_ones() const {
  std::vector<SlotPtr> all;
  for (const auto& [name, slot] : table) all.push_back(slot);
  all.insert(all.end(), outside.begin(), outside.end());
  std::erase_if(all, [](const SlotPtr& slot) { return !slot->model; });
  return all;
}

// What is still being loaded is as new as can be, and of files that are gone for now there is
// nothing newer.
bool ModelManager::Impl::is_current(const Slot& slot, const ModelEntry& asked) const {
  if (slot.entry.path != asked.path || !slot.model) return slot.entry.path == asked.path;
  const bool lost = std::ranges::any_of(slot.model->model().files, &MappedFile::lost);
  return !lost && (asked.stamp.empty() || slot.entry.stamp == asked.stamp);
}

ServedPtr ModelManager::Impl::lease(const SlotPtr& slot) {
  ++slot->users;
  auto lease = std::make_shared<Lease>(shared_from_this(), slot);
  return {std::move(lease), slot->model.get()};
}

void ModelManager::Impl::take_out(SlotPtr slot, UnloadReason reason) {
  table.erase(slot->entry.name);
  slot->in_table = false;
  ++counted.unloads[static_cast<size_t>(reason)];
  spdlog::info("unloading model=\"{}\" reason={}", slot->entry.name, to_string(reason));
  if (slot->model) outside.push_back(slot);
  if (slot->model && slot->users == 0) leaving.push_back(std::move(slot));
  changed.notify_all();
}

void ModelManager::Impl::released(const SlotPtr& slot) {
  ServedPtr gone;  // with the manager: nobody else destroys it
  const std::lock_guard lock(mutex);
  slot->last_use = now();
  if (--slot->users > 0) return;
  if (stopping) {
    gone = std::move(slot->model);
  } else if (!slot->in_table) {
    leaving.push_back(slot);
  } else if (!slot->pinned && slot->keep_alive.count() == 0) {
    take_out(slot, UnloadReason::kIdle);
  }
  changed.notify_all();
}

// Of a model that is in use: when it would go if that ended now.
std::optional<Clock::time_point> ModelManager::Impl::expiry(const Slot& slot) const {
  if (!slot.model || slot.pinned || slot.keep_alive.count() < 0) return std::nullopt;
  return (slot.users > 0 ? now() : slot.last_use) + slot.keep_alive;
}

void ModelManager::Impl::expire() {
  std::vector<LoadNews> news;
  {
    const std::lock_guard lock(mutex);
    std::vector<SlotPtr> idle;
    for (const auto& [name, slot] : table) {
      const auto when = slot->users > 0 ? std::nullopt : expiry(*slot);
      if (when && *when <= now()) idle.push_back(slot);
    }
    for (const SlotPtr& slot : idle) take_out(slot, UnloadReason::kIdle);
    for (const SlotPtr& slot : pending) {
      for (LoadNews& late : slot->waiters.take_late(now())) news.push_back(std::move(late));
    }
  }
  if (!news.empty()) changed.notify_all();  // as give_up()
  for (LoadNews& one : news) one.tell();
}

std::optional<Clock::time_point> ModelManager::Impl::next_event() const {
  std::optional<Clock::time_point> next;
  const auto consider = [&](std::optional<Clock::time_point> time) {
    if (time) next = std::min(next.value_or(*time), *time);
  };
  for (const auto& [name, slot] : table) {
    if (slot->users == 0) consider(expiry(*slot));
  }
  for (const SlotPtr& slot : pending) consider(slot->waiters.next_late());
  return next;
}

void ModelManager::Impl::remove_blocks(const std::string& name) const {
  try {
    remove_kv_folder(options.kv_disk.folder, name);
  } catch (const Error& error) {
    if (error.code() == ErrorCode::kNotFound) return;  // it has none
    spdlog::warn("model=\"{}\": its KV blocks on disk stay: {}", name, error.what());
  }
}

// Of one that no container has any more: nobody else reads or writes it.
void ModelManager::Impl::remove_if_forgotten(const Slot& slot) const {
  if (slot.forgotten) remove_blocks(slot.entry.name);
}

// Destroys what leaves, and looks at the clock in time.
void ModelManager::Impl::run_clock() {
  std::unique_lock lock(mutex);
  while (!stopping) {
    if (!leaving.empty()) {
      const SlotPtr slot = leaving.back();
      leaving.pop_back();
      ++destroying;
      lock.unlock();
      slot->model->scheduler().drain(milliseconds(0));  // then all is counted
      lock.lock();
      std::erase(outside, slot);
      past[slot->entry.name].add(slot->model->scheduler().stats());
      ServedPtr model = std::move(slot->model);
      lock.unlock();
      model.reset();
      return_freed_memory();
      remove_if_forgotten(*slot);
      lock.lock();
      --destroying;
      let_go(*slot);
      changed.notify_all();
      continue;
    }
    const auto next = next_event();
    if (next && *next <= now()) {
      lock.unlock();
      expire();
      lock.lock();
    } else if (next) {
      const auto left = std::chrono::ceil<milliseconds>(*next - now());
      changed.wait_for(lock, std::clamp(left, kShortestLook, kLongestLook));
    } else {
      changed.wait(lock);
    }
  }
}

void ModelManager::Impl::wait_for_leaving(std::unique_lock<std::mutex>& lock) {
  const auto gone = [&] { return stopping || (leaving.empty() && destroying == 0); };
  if (!changed.wait_for(lock, kLongestLeave, gone)) {
    throw Error(ErrorCode::kUnavailable,
                "a model that is being unloaded takes too long to leave; try again");
  }
}

void ModelManager::Impl::hold(Slot& slot) {
  slot.holds = true;
  ++holders;
  counted.reserved += slot.memory.total();
}

void ModelManager::Impl::let_go(Slot& slot) {
  if (!std::exchange(slot.holds, false)) return;
  --holders;
  counted.reserved -= slot.memory.total();
}

// Whose memory is taken when everyone has left who is to leave: what comes after it is not here.
std::vector<ModelManager::Impl::SlotPtr> ModelManager::Impl::placed_ones() const {
  std::vector<SlotPtr> all;
  for (const auto& [name, slot] : table) {
    if (slot->placed) all.push_back(slot);
  }
  for (const SlotPtr& slot : pending) {
    if (slot->placed && !slot->in_table) all.push_back(slot);
  }
  return all;
}

// Idle models before those in use.
ModelManager::Impl::Victims ModelManager::Impl::choose(int64_t wanted, const MemoryLimits& limits,
                                                       Leavers leavers) const {
  const std::vector<SlotPtr> others = placed_ones();
  std::vector<Resident> residents;
  int64_t taken = 0;
  for (const SlotPtr& other : others) {
    const bool idle = other->model && other->users == 0;
    const bool in_time = leavers == Leavers::kAll || (leavers == Leavers::kReady && other->model);
    residents.push_back({.bytes = other->memory.total(),
                         .last_use = idle ? other->last_use : now(),
                         .may_leave = !(other->pinned && other->in_table) && (idle || in_time)});
    taken += residents.back().bytes;
  }
  const bool for_memory = limits.bytes > 0 && taken + wanted > limits.bytes;
  Victims victims{choose_eviction(residents, taken, wanted, limits),
                  for_memory ? UnloadReason::kMemory : UnloadReason::kCount,
                  {}};
  for (const size_t i : victims.eviction.leave) victims.slots.push_back(others[i]);
  return victims;
}

void ModelManager::Impl::take_out(const Victims& victims) {
  for (const SlotPtr& slot : victims.slots) take_out(slot, victims.reason);
}

// A load that nobody waits for any more, so that nobody is told. Who was to leave for it and still
// answers stays, where there is room.
void ModelManager::Impl::abandon(const SlotPtr& slot) {
  if (slot->in_table) table.erase(slot->entry.name);
  slot->in_table = slot->placed = false;
  for (const SlotPtr& one : std::exchange(slot->leave_for_it, {})) bring_back(one);
  settled(slot);
}

void ModelManager::Impl::bring_back(const SlotPtr& slot) {
  if (slot->users == 0 || slot->forgotten || table.contains(slot->entry.name)) return;
  const Victims others = choose(slot->memory.total(), limits(), Leavers::kIdle);
  if (!others.eviction.fits || !others.slots.empty()) return;
  std::erase(outside, slot);
  slot->in_table = true;
  table.emplace(slot->entry.name, slot);
}

// Free room is anybody's; others leave for who came first, or a large model would never see so much
// of it at once.
bool ModelManager::Impl::take_place(const SlotPtr& slot) {
  for (const Leavers leavers : {Leavers::kIdle, Leavers::kReady}) {
    Victims victims = choose(slot->memory.total(), limits(), leavers);
    if (!victims.eviction.fits) continue;
    if (!victims.slots.empty() && seeking.front() != slot) return false;
    slot->placed = true;
    take_out(victims);
    slot->leave_for_it = std::move(victims.slots);
    return true;
  }
  return false;
}

// Who must leave for it, leaves when it has answered; what asks for it then, queues behind this
// one, so that two models with room for one are served in turn. A load that is refused changes
// nothing. False: nobody waits for it any more.
bool ModelManager::Impl::find_place(std::unique_lock<std::mutex>& lock, const SlotPtr& slot) {
  seeking.push_back(slot);
  bool found = false;
  std::optional<Error> refusal;
  while (!refusal && !nobody_wants(*slot) && !(found = take_place(slot))) {
    const Eviction all = choose(slot->memory.total(), limits(), Leavers::kAll).eviction;
    if (all.fits) {
      changed.wait(lock);
    } else {
      refusal = cannot_load(slot->entry.name, slot->memory, limits(), all);
    }
  }
  std::erase(seeking, slot);
  changed.notify_all();
  if (refusal) {
    ++counted.refused_loads;
    throw *refusal;
  }
  return found;
}

// Returns when the slot's memory is free, and taken by it. False: nobody waits for it any more.
bool ModelManager::Impl::make_room(std::unique_lock<std::mutex>& lock, const SlotPtr& slot) {
  const MemoryLimits most = limits();
  const auto fits = [&] {
    return (most.bytes == 0 || counted.reserved + slot->memory.total() <= most.bytes) &&
           (most.models == 0 || holders < most.models);
  };
  if (find_place(lock, slot)) {
    if (!fits()) spdlog::info("model=\"{}\" waits for others to leave", slot->entry.name);
    changed.wait(lock, [&] { return fits() || nobody_wants(*slot); });
  }
  if (nobody_wants(*slot)) {
    abandon(slot);
    return false;
  }
  hold(*slot);
  slot->leave_for_it.clear();
  wait_for_leaving(lock);
  return true;
}

ModelManager::Impl::SlotPtr ModelManager::Impl::reserve_adapter(const ServedModel& model,
                                                                const std::string& name,
                                                                int64_t bytes) {
  std::unique_lock lock(mutex);
  wait_for_leaving(lock);
  const auto ready = ready_ones();
  const auto slot =
      std::ranges::find_if(ready, [&](const SlotPtr& one) { return one->model.get() == &model; });
  if (slot == ready.end()) throw Error(ErrorCode::kUnavailable, "the model was unloaded");
  const MemoryLimits most{options.memory_bytes, 0};
  int64_t outside_in_use = 0;  // unlike a load, this waits for nobody's answers
  for (const SlotPtr& one : outside) outside_in_use += one->users > 0 ? one->memory.total() : 0;
  const Victims victims = choose(bytes + outside_in_use, most, Leavers::kIdle);
  if (!victims.eviction.fits) throw cannot_add_adapter(name, bytes, most, victims.eviction);
  take_out(victims);
  (*slot)->memory.adapters += bytes;
  counted.reserved += bytes;
  try {
    wait_for_leaving(lock);
  } catch (...) {
    give_back_adapter(**slot, bytes);
    throw;
  }
  return *slot;
}

void ModelManager::Impl::give_back_adapter(Slot& slot, int64_t bytes) {
  slot.memory.adapters -= bytes;
  counted.reserved -= bytes;
  changed.notify_all();
}

// Takes a slot that is loaded, or never will be, out of the pending ones.
std::vector<LoadWaiter> ModelManager::Impl::settled(const SlotPtr& slot) {
  std::erase(pending, slot);
  changed.notify_all();
  return slot->waiters.take_all();
}

std::vector<LoadNews> ModelManager::Impl::nobody_waits(const Error& failure) {
  std::vector<LoadNews> news;
  for (const SlotPtr& slot : pending) {
    news.push_back({slot->waiters.take_all(), std::make_exception_ptr(failure), {}});
  }
  return news;
}

LoadNews ModelManager::Impl::ready(const SlotPtr& slot, ServedPtr model) {
  const std::lock_guard lock(mutex);
  slot->model = std::move(model);
  slot->last_use = now();
  ++counted.loads;
  LoadNews news{settled(slot), nullptr, {}};
  for (size_t i = 0; i < news.waiters.size(); ++i) news.models.push_back(lease(slot));
  if (!slot->in_table) outside.push_back(slot);
  if (!slot->in_table && slot->users == 0) leaving.push_back(slot);
  return news;
}

LoadNews ModelManager::Impl::failed(const SlotPtr& slot, std::exception_ptr failure) {
  const std::lock_guard lock(mutex);
  if (slot->in_table) table.erase(slot->entry.name);  // the next request tries again
  slot->in_table = false;
  slot->placed = false;
  let_go(*slot);
  ++counted.failed_loads;
  return {settled(slot), std::move(failure), {}};
}

void ModelManager::Impl::load(const SlotPtr& slot) {
  LoadNews news;
  try {
    std::string stamp = file_stamp(slot->entry.path);
    {
      const std::lock_guard lock(mutex);  // others copy the entries of what is in the table
      slot->entry.stamp = std::move(stamp);
    }
    const ModelSettings s = settings ? settings(slot->entry.name) : ModelSettings();
    const auto opened = loader->open(slot->entry, s);
    {
      std::unique_lock lock(mutex);
      slot->memory = opened->estimate();
      slot->pinned = s.pin.value_or(false);
      if (!make_room(lock, slot)) {
        lock.unlock();
        return remove_if_forgotten(*slot);
      }
    }
    ServedPtr model = opened->load();
    const LoadedModelInfo info = model->info();
    spdlog::info("loaded model=\"{}\" seconds={:.2f} memory_mib={} repacked_mib={}", info.name,
                 info.load_seconds, info.memory.total() >> 20, info.repacked_bytes >> 20);
    news = ready(slot, std::move(model));
  } catch (...) {
    news = failed(slot, std::current_exception());
    remove_if_forgotten(*slot);
  }
  news.tell();
}

void ModelManager::Impl::run_loads() {
  std::unique_lock lock(mutex);
  while (true) {
    changed.wait(lock, [&] { return stopping || !queued.empty(); });
    if (stopping) return;
    const SlotPtr slot = queued.front();
    queued.erase(queued.begin());
    if (slot->waiters.empty()) {  // all gave up before it began
      abandon(slot);
      lock.unlock();
      remove_if_forgotten(*slot);
      lock.lock();
      continue;
    }
    ++counted.loading;
    lock.unlock();
    load(slot);
    lock.lock();
    --counted.loading;
    changed.notify_all();
  }
}

}  // namespace mlxr
