#include "daemon/scheduler/model_manager.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <condition_variable>
#include <future>
#include <map>
#include <mutex>
#include <thread>

#include "core/base/system_memory.h"
#include "core/runtime/kv/kv_plan.h"
#include "daemon/scheduler/eviction.h"
#include "daemon/scheduler/load_refusal.h"
#include "daemon/scheduler/load_waiters.h"
#include "daemon/scheduler/model_loader.h"

namespace mlxr {
namespace {

using Clock = ModelManager::Clock;
using ServedPtr = std::shared_ptr<ServedModel>;
using std::chrono::milliseconds;

// Models that are loaded at once; more wait for a thread.
constexpr int kLoaders = 4;
// That a load waits for models which leave to be gone.
constexpr std::chrono::seconds kLongestLeave{60};
// Between two looks at the clock, which may be a test's.
constexpr milliseconds kShortestLook{1}, kLongestLook{60000};

Error shutting_down() { return {ErrorCode::kUnavailable, "the daemon is shutting down"}; }

}  // namespace

// A model on its way into memory, in it, or on its way out:
//   queued -> loading -> ready -> leaving -> gone
// A slot in the table is one of the first three. One that was taken out of it is loaded to the end
// for those who wait, and leaves when nobody uses it any more. `reserved` is the sum of `memory` of
// all slots that are not gone. Everything here is guarded by Impl::mutex, but for calls of a model.
struct ModelManager::Impl : std::enable_shared_from_this<Impl> {
  struct Slot {
    explicit Slot(const ModelEntry& its_entry) : entry(its_entry), waiters(its_entry.name) {}
    ModelEntry entry;
    bool in_table = true;
    bool forgotten = false;  // its KV blocks on disk go with it
    bool pinned = false;
    bool placed = false;  // its memory is reserved
    ServedPtr model;      // when it is ready
    MemoryEstimate memory;
    int users = 0;  // leases
    Clock::time_point last_use;
    milliseconds keep_alive{-1};
    LoadWaiters waiters;
  };
  using SlotPtr = std::shared_ptr<Slot>;
  // Who holds what acquire() gave.
  struct Lease {
    Lease(std::shared_ptr<Impl> of, SlotPtr used) : impl(std::move(of)), slot(std::move(used)) {}
    ~Lease() { impl->released(slot); }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    std::shared_ptr<Impl> impl;
    SlotPtr slot;
  };

  Impl(ModelManagerOptions given, SettingsOf settings_of)
      : options(std::move(given)), settings(std::move(settings_of)), paths(options.model_paths) {}

  const ModelManagerOptions options;
  const SettingsOf settings;
  std::unique_ptr<ModelLoader> loader;

  mutable std::mutex mutex;
  std::condition_variable changed;
  std::vector<std::filesystem::path> paths;  // configured and added; one a name
  bool draining = false, stopping = false;
  std::map<std::string, SlotPtr> table;
  std::vector<SlotPtr> pending;  // queued or loading, in the table or not: who waits is here
  std::vector<SlotPtr> queued;   // to be loaded
  std::vector<SlotPtr> outside;  // ready, but not in the table any more; until they are destroyed
  std::vector<SlotPtr> leaving;  // of those: nobody uses them, to be destroyed
  int destroying = 0;
  WaitId next_id = 1;
  std::map<std::string, SchedulerStats> past;  // what models that are gone have counted, by name
  MemoryStats counted;  // `reserved`, `loading` and what is counted; the rest is filled in memory()
  std::vector<std::thread> threads;

  Clock::time_point now() const { return options.now ? options.now() : Clock::now(); }
  CatalogSources sources() const;

  // With the lock held.
  std::vector<SlotPtr> ready_ones() const;  // those of the table first
  ServedPtr lease(const SlotPtr& slot);
  void take_out(SlotPtr slot, UnloadReason reason);  // a copy: the table's own goes
  std::optional<Clock::time_point> expiry(const Slot& slot) const;
  std::optional<Clock::time_point> next_event() const;
  void make_room(std::unique_lock<std::mutex>& lock, Slot& slot);
  void wait_for_leaving(std::unique_lock<std::mutex>& lock);

  std::vector<LoadNews> nobody_waits(const Error& failure);
  std::vector<LoadWaiter> settled(const SlotPtr& slot);

  // Without it.
  void released(const SlotPtr& slot);
  void remove_blocks(const std::string& name) const;
  void load(const SlotPtr& slot);
  LoadNews ready(const SlotPtr& slot, ServedPtr model);
  LoadNews failed(const SlotPtr& slot, std::exception_ptr failure);
  void expire();

  void run_loads();
  void run_clock();
};

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
      if (slot->forgotten) remove_blocks(slot->entry.name);
      lock.lock();
      --destroying;
      counted.reserved -= slot->memory.total();
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

// Reserves the slot's memory and returns when it is free. A load that is refused changes nothing.
void ModelManager::Impl::make_room(std::unique_lock<std::mutex>& lock, Slot& slot) {
  wait_for_leaving(lock);
  std::vector<SlotPtr> others;
  std::vector<Resident> residents;
  for (const auto& [name, other] : table) {
    if (!other->placed) continue;  // this slot, and those that come after it
    others.push_back(other);
    const bool idle = other->model && other->users == 0;
    residents.push_back({other->memory.total(), other->last_use, idle && !other->pinned});
  }
  const int64_t wanted = slot.memory.total();
  const MemoryLimits limits{options.memory_bytes, options.max_loaded_models};
  const Eviction eviction = choose_eviction(residents, counted.reserved, wanted, limits);
  if (!eviction.fits) {
    ++counted.refused_loads;
    throw cannot_load(slot.entry.name, slot.memory, limits, eviction);
  }
  const bool for_memory = limits.bytes > 0 && counted.reserved + wanted > limits.bytes;
  for (const size_t i : eviction.leave) {
    take_out(others[i], for_memory ? UnloadReason::kMemory : UnloadReason::kCount);
  }
  counted.reserved += wanted;
  slot.placed = true;
  wait_for_leaving(lock);
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
  if (std::exchange(slot->placed, false)) counted.reserved -= slot->memory.total();
  ++counted.failed_loads;
  return {settled(slot), std::move(failure), {}};
}

void ModelManager::Impl::load(const SlotPtr& slot) {
  LoadNews news;
  try {
    const ModelSettings s = settings ? settings(slot->entry.name) : ModelSettings();
    const auto opened = loader->open(slot->entry, s);
    {
      std::unique_lock lock(mutex);
      slot->memory = opened->estimate();
      slot->pinned = s.pin.value_or(false);
      make_room(lock, *slot);
    }
    ServedPtr model = opened->load();
    const LoadedModelInfo info = model->info();
    spdlog::info(
        "loaded model=\"{}\" seconds={:.2f} memory_mib={} repacked_mib={} repack_seconds={:.2f}",
        info.name, info.load_seconds, info.memory.total() >> 20, info.repacked_bytes >> 20,
        info.repack_seconds);
    news = ready(slot, std::move(model));
  } catch (...) {
    news = failed(slot, std::current_exception());
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
      if (slot->in_table) table.erase(slot->entry.name);
      slot->in_table = false;
      settled(slot);
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

ModelManager::ModelManager(ModelManagerOptions options, SettingsOf settings)
    : ModelManager(std::move(options), std::move(settings), nullptr) {}

ModelManager::ModelManager(ModelManagerOptions options, SettingsOf settings,
                           std::unique_ptr<ModelLoader> loader)
    : impl_(std::make_shared<Impl>(std::move(options), std::move(settings))) {
  Impl& self = *impl_;
  self.loader = loader ? std::move(loader)
                       : file_model_loader(self.options,
                                           [this](const std::string& name) { return find(name); });
  for (int i = 0; i < kLoaders; ++i) self.threads.emplace_back([&self] { self.run_loads(); });
  self.threads.emplace_back([&self] { self.run_clock(); });
}

int32_t ModelManager::context_length(const std::string& name, const ModelFacts& facts) const {
  const ModelSettings own = impl_->settings ? impl_->settings(name) : ModelSettings();
  const EngineOptions options = engine_options(impl_->options.engine, own);
  try {
    return plan_kv(facts, options).context;
  } catch (const Error&) {  // it cannot be loaded; whoever tries is told why
    return options.context_length > 0 ? options.context_length : facts.context_length;
  }
}

ModelManager::~ModelManager() {
  Impl& self = *impl_;
  std::vector<LoadNews> news;
  {
    const std::lock_guard lock(self.mutex);
    self.draining = self.stopping = true;
    news = self.nobody_waits(shutting_down());
  }
  self.changed.notify_all();
  for (LoadNews& one : news) one.tell();
  for (std::thread& thread : self.threads) thread.join();
  std::vector<ServedPtr> idle;  // those in use go with their last user
  {
    const std::lock_guard lock(self.mutex);
    for (const auto& [name, slot] : self.table) {
      if (slot->users == 0) idle.push_back(std::move(slot->model));
    }
    for (const auto& slot : self.leaving) idle.push_back(std::move(slot->model));
    self.table.clear();
    self.leaving.clear();
    self.outside.clear();
  }
}

std::vector<ModelEntry> ModelManager::list() const {
  std::unique_lock lock(impl_->mutex);
  const CatalogSources sources = impl_->sources();
  lock.unlock();
  return list_models(sources);
}

ModelEntry ModelManager::find(const std::string& name) const { return find_model(list(), name); }

ServedPtr ModelManager::acquire_loaded(const ModelEntry& entry) {
  const std::lock_guard lock(impl_->mutex);
  if (impl_->draining) throw shutting_down();
  const auto found = impl_->table.find(entry.name);
  const bool there = found != impl_->table.end() && found->second->model &&
                     found->second->entry.path == entry.path;
  return there ? impl_->lease(found->second) : nullptr;
}

ModelManager::WaitId ModelManager::acquire(const ModelEntry& entry,
                                           std::optional<milliseconds> timeout, Heard heard) {
  Impl& self = *impl_;
  std::unique_lock lock(self.mutex);
  if (self.draining) throw shutting_down();
  auto found = self.table.find(entry.name);
  if (found != self.table.end() && found->second->entry.path != entry.path) {
    self.take_out(found->second, UnloadReason::kReplaced);
    found = self.table.end();
  }
  const WaitId id = self.next_id++;
  if (found != self.table.end() && found->second->model) {
    ServedPtr model = self.lease(found->second);
    lock.unlock();
    heard(std::move(model), nullptr);
    return id;
  }
  if (found == self.table.end()) {
    auto slot = std::make_shared<Impl::Slot>(entry);
    slot->keep_alive = self.options.keep_alive;
    found = self.table.emplace(entry.name, slot).first;
    self.pending.push_back(slot);
    self.queued.push_back(slot);
  }
  const auto now = self.now();
  found->second->waiters.add({.id = id,
                              .timeout = timeout,
                              .deadline = timeout ? std::optional(now + *timeout) : std::nullopt,
                              .latest = now + self.options.load_timeout,
                              .heard = std::move(heard)},
                             self.options.scheduler.max_queue);
  lock.unlock();
  self.changed.notify_all();
  return id;
}

void ModelManager::give_up(WaitId id) {
  LoadNews news;
  {
    const std::lock_guard lock(impl_->mutex);
    for (const Impl::SlotPtr& slot : impl_->pending) {
      auto waiter = slot->waiters.take(id);
      if (!waiter) continue;
      news = {{std::move(*waiter)},
              std::make_exception_ptr(Error(ErrorCode::kUnavailable, "the request was given up")),
              {}};
      break;
    }
  }
  news.tell();
}

ServedPtr ModelManager::acquire(const std::string& name) {
  const auto promise = std::make_shared<std::promise<ServedPtr>>();
  acquire(find(name), std::nullopt, [promise](ServedPtr model, std::exception_ptr failure) {
    failure ? promise->set_exception(failure) : promise->set_value(std::move(model));
  });
  return promise->get_future().get();
}

void ModelManager::keep_alive(const std::string& name, milliseconds time) {
  const std::lock_guard lock(impl_->mutex);
  const auto slot = impl_->table.find(name);
  if (slot == impl_->table.end()) return;
  slot->second->keep_alive = time;
  impl_->changed.notify_all();
}

std::optional<Clock::time_point> ModelManager::expires(const std::string& name) const {
  const std::lock_guard lock(impl_->mutex);
  const auto slot = impl_->table.find(name);
  return slot == impl_->table.end() ? std::nullopt : impl_->expiry(*slot->second);
}

void ModelManager::expire() { impl_->expire(); }

std::vector<LoadedModelInfo> ModelManager::loaded() const {
  std::vector<LoadedModelInfo> out;
  const std::lock_guard lock(impl_->mutex);
  for (const Impl::SlotPtr& slot : impl_->ready_ones()) {
    out.push_back(slot->model->info());
    out.back().path = slot->entry.path;
    out.back().leaving = !slot->in_table;
  }
  return out;
}

std::map<std::string, SchedulerStats> ModelManager::counted() const {
  const std::lock_guard lock(impl_->mutex);
  std::map<std::string, SchedulerStats> sums = impl_->past;
  for (const auto& slot : impl_->ready_ones())
    sums[slot->entry.name].add(slot->model->scheduler().stats());
  return sums;
}

MemoryStats ModelManager::memory() const {
  const std::lock_guard lock(impl_->mutex);
  MemoryStats stats = impl_->counted;
  stats.limit = impl_->options.memory_bytes;
  for (const Impl::SlotPtr& slot : impl_->pending) {
    stats.waiting += static_cast<int32_t>(slot->waiters.size());
  }
  return stats;
}

std::string ModelManager::find_in_memory(const std::string& name) const {
  std::unique_lock lock(impl_->mutex);
  const auto is_it = [&](const auto& slot) { return slot->entry.name == name; };
  if (impl_->table.contains(name) || std::ranges::any_of(impl_->outside, is_it)) return name;
  lock.unlock();
  return find(name).name;
}

bool ModelManager::unload(const std::string& name) {
  std::unique_lock lock(impl_->mutex);
  const auto found = impl_->table.find(name);
  if (found == impl_->table.end()) return false;
  const Impl::SlotPtr slot = found->second;
  impl_->take_out(slot, UnloadReason::kAsked);
  // One in use goes when the last request that holds it lets go.
  if (slot->users == 0) impl_->wait_for_leaving(lock);
  return true;
}

void ModelManager::forget(const std::string& name) {
  unload(name);
  {
    const std::lock_guard lock(impl_->mutex);
    bool answers = false;
    for (const auto& slot : impl_->outside)
      if (slot->entry.name == name) answers = slot->forgotten = true;
    if (answers) return;
  }
  impl_->remove_blocks(name);
}

ModelEntry ModelManager::add_path(const std::filesystem::path& path) {
  if (!is_model_path(path)) {
    throw Error(ErrorCode::kNotFound,
                path.string() +
                    " is not a model: give a .gguf file, or a folder with config.json "
                    "and .safetensors files");
  }
  const std::filesystem::path absolute = std::filesystem::weakly_canonical(path);
  const std::string name = model_name(absolute);
  const std::lock_guard lock(impl_->mutex);
  auto& paths = impl_->paths;
  std::erase_if(paths, [&](const auto& other) { return model_name(other) == name; });
  paths.push_back(absolute);
  return {name, absolute, false};
}

void ModelManager::drain(milliseconds timeout) {
  std::vector<LoadNews> news;
  std::vector<ServedPtr> models;
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->draining = true;
    for (const Impl::SlotPtr& slot : impl_->ready_ones()) models.push_back(slot->model);
    news = impl_->nobody_waits(shutting_down());
  }
  for (LoadNews& one : news) one.tell();
  const auto deadline = Clock::now() + timeout;
  for (const ServedPtr& model : models) {
    const auto left = std::chrono::duration_cast<milliseconds>(deadline - Clock::now());
    model->scheduler().drain(std::max(left, milliseconds(0)));
  }
}

}  // namespace mlxr
