// The inside of ModelManager: who is in memory, and the threads that load and unload.
#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "daemon/scheduler/eviction.h"
#include "daemon/scheduler/load_waiters.h"
#include "daemon/scheduler/model_loader.h"
#include "daemon/scheduler/model_manager.h"

namespace mlxr {

// A model on its way into memory, in it, or on its way out:
//   queued -> placed -> loading -> ready -> leaving -> gone
// A slot in the table is one of the first four. One that was taken out of it is loaded to the end
// for those who wait, and leaves when nobody uses it any more. A placed one has its place, and
// waits for those who leave it to be gone; from then on it holds its memory: `reserved` is the sum
// of those who do. Everything here is guarded by Impl::mutex, but for calls of a model.
struct ModelManager::Impl : std::enable_shared_from_this<Impl> {
  using ServedPtr = std::shared_ptr<ServedModel>;
  using milliseconds = std::chrono::milliseconds;
  struct Slot {
    explicit Slot(const ModelEntry& its_entry) : entry(its_entry), waiters(its_entry.name) {}
    ModelEntry entry;
    bool in_table = true;
    bool forgotten = false;  // its KV blocks on disk go with it
    bool pinned = false;
    bool placed = false;  // in the table: others leave, or left, so that it fits
    bool holds = false;   // its memory, until it is gone
    std::vector<std::shared_ptr<Slot>> leave_for_it;  // until it holds its memory
    ServedPtr model;                                  // when it is ready
    MemoryEstimate memory;
    std::map<std::string, int64_t> added;  // adapters that were added to it: their part of `memory`
    int users = 0;                         // leases
    Clock::time_point last_use;
    milliseconds keep_alive{-1};
    LoadWaiters waiters;
  };
  using SlotPtr = std::shared_ptr<Slot>;
  // Who may be asked to leave: idle models; those in use, too, when they have answered; all but
  // pinned ones, when they have come and answered.
  enum class Leavers { kIdle, kReady, kAll };
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
  std::vector<SlotPtr> seeking;  // being loaded, and without a place; first come, first served
  std::vector<SlotPtr> outside;  // ready, but not in the table any more; until they are destroyed
  std::vector<SlotPtr> leaving;  // of those: nobody uses them, to be destroyed
  int destroying = 0;
  int32_t holders = 0;  // slots that hold their memory
  WaitId next_id = 1;
  std::map<std::string, SchedulerStats> past;  // what models that are gone have counted, by name
  MemoryStats counted;  // `reserved`, `loading` and what is counted; the rest is filled in memory()
  std::vector<std::thread> threads;

  Clock::time_point now() const { return options.now ? options.now() : Clock::now(); }
  CatalogSources sources() const;

  // With the lock held.
  std::vector<SlotPtr> ready_ones() const;  // those of the table first
  bool is_current(const Slot& slot, const ModelEntry& asked) const;
  ServedPtr lease(const SlotPtr& slot);
  void take_out(SlotPtr slot, UnloadReason reason);  // a copy: the table's own goes
  std::optional<Clock::time_point> expiry(const Slot& slot) const;
  std::optional<Clock::time_point> next_event() const;
  MemoryLimits limits() const { return {options.memory_bytes, options.max_loaded_models}; }
  std::vector<SlotPtr> placed_ones() const;
  struct Victims {
    Eviction eviction;
    UnloadReason reason;
    std::vector<SlotPtr> slots;
  };
  Victims choose(int64_t wanted, const MemoryLimits& limits, Leavers leavers) const;
  void take_out(const Victims& victims);
  void hold(Slot& slot);
  void let_go(Slot& slot);
  bool nobody_wants(const Slot& slot) const { return stopping || slot.waiters.empty(); }
  bool make_room(std::unique_lock<std::mutex>& lock, const SlotPtr& slot);
  bool find_place(std::unique_lock<std::mutex>& lock, const SlotPtr& slot);
  bool take_place(const SlotPtr& slot);
  void abandon(const SlotPtr& slot);
  void bring_back(const SlotPtr& slot);
  void wait_for_leaving(std::unique_lock<std::mutex>& lock);

  std::vector<LoadNews> nobody_waits(const Error& failure);
  std::vector<LoadWaiter> settled(const SlotPtr& slot);

  // Without it.
  void released(const SlotPtr& slot);
  SlotPtr reserve_adapter(const ServedModel& model, const std::string& name, int64_t bytes);
  void give_back_adapter(Slot& slot, int64_t bytes);  // with the lock held
  void remove_blocks(const std::string& name) const;
  void remove_if_forgotten(const Slot& slot) const;
  void load(const SlotPtr& slot);
  LoadNews ready(const SlotPtr& slot, ServedPtr model);
  LoadNews failed(const SlotPtr& slot, std::exception_ptr failure);
  void expire();

  void run_loads();
  void run_clock();
};

}  // namespace mlxr
