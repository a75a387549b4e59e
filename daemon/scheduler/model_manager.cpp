#include "daemon/scheduler/model_manager.h"

#include <algorithm>
#include <future>

#include "core/runtime/kv/kv_plan.h"
#include "daemon/scheduler/file_stamp.h"
#include "daemon/scheduler/model_manager_impl.h"

namespace mlxr {
namespace {

using Clock = ModelManager::Clock;
using ServedPtr = std::shared_ptr<ServedModel>;
using std::chrono::milliseconds;

// Models that are loaded at once; more wait for a thread.
constexpr int kLoaders = 4;
Error shutting_down() { return {ErrorCode::kUnavailable, "the daemon is shutting down"}; }

}  // namespace

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

ModelEntry ModelManager::find(const std::string& name) const {
  ModelEntry entry = find_model(list(), name);
  entry.stamp = file_stamp(entry.path);
  return entry;
}

ServedPtr ModelManager::acquire_loaded(const ModelEntry& entry) {
  const std::lock_guard lock(impl_->mutex);
  if (impl_->draining) throw shutting_down();
  const auto found = impl_->table.find(entry.name);
  const bool there = found != impl_->table.end() && found->second->model &&
                     impl_->is_current(*found->second, entry);
  return there ? impl_->lease(found->second) : nullptr;
}

ModelManager::WaitId ModelManager::acquire(const ModelEntry& entry,
                                           std::optional<milliseconds> timeout, Heard heard) {
  Impl& self = *impl_;
  std::unique_lock lock(self.mutex);
  if (self.draining) throw shutting_down();
  auto found = self.table.find(entry.name);
  if (found != self.table.end() && !self.is_current(*found->second, entry)) {
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
  impl_->changed.notify_all();  // a load that waits for room may do so for nobody now
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
    out.back().memory = slot->memory;  // with adapters that were added
  }
  return out;
}

std::map<std::string, SchedulerStats> ModelManager::counted() const {
  const std::lock_guard lock(impl_->mutex);
  std::map<std::string, SchedulerStats> sums = impl_->past;
  for (const Impl::SlotPtr& slot : impl_->ready_ones()) {
    sums[slot->entry.name].add(slot->model->scheduler().stats());
  }
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
  std::vector<ModelEntry> entries;
  {
    const std::lock_guard lock(impl_->mutex);
    for (const auto& [key, slot] : impl_->table) entries.push_back(slot->entry);
    for (const Impl::SlotPtr& slot : impl_->outside) entries.push_back(slot->entry);
  }
  const ModelEntry* found = look_up(entries, name);
  return found != nullptr ? found->name : find(name).name;
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

void ModelManager::add_adapter(ServedModel& model, const AdapterSettings& adapter) {
  const int64_t bytes = model.adapters().memory_of(adapter.path);
  const Impl::SlotPtr slot = impl_->reserve_adapter(model, adapter.name, bytes);
  int64_t unused = bytes;
  std::exception_ptr failure;
  try {
    model.adapters().add(adapter);
  } catch (...) {
    failure = std::current_exception();
  }
  const std::lock_guard lock(impl_->mutex);
  if (!failure) unused = std::exchange(slot->added[adapter.name], bytes);
  impl_->give_back_adapter(*slot, unused);
  if (failure) std::rethrow_exception(failure);
}

void ModelManager::remove_adapter(ServedModel& model, const std::string& name) {
  model.adapters().remove(name);
  const std::lock_guard lock(impl_->mutex);
  for (const Impl::SlotPtr& slot : impl_->ready_ones()) {
    if (slot->model.get() != &model) continue;
    const auto added = slot->added.find(name);
    if (added == slot->added.end()) return;  // of the settings: part of the model's own estimate
    impl_->give_back_adapter(*slot, added->second);
    slot->added.erase(added);
  }
}

void ModelManager::forget(const std::string& name) {
  unload(name);
  {
    const std::lock_guard lock(impl_->mutex);
    bool later = false;
    for (const auto* slots : {&impl_->outside, &impl_->pending}) {
      for (const Impl::SlotPtr& slot : *slots) {
        if (slot->entry.name == name) later = slot->forgotten = true;
      }
    }
    if (later) return;
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
  impl_->changed.notify_all();
  for (LoadNews& one : news) one.tell();
  const auto deadline = Clock::now() + timeout;
  for (const ServedPtr& model : models) {
    const auto left = std::chrono::duration_cast<milliseconds>(deadline - Clock::now());
    model->scheduler().drain(std::max(left, milliseconds(0)));
  }
}

}  // namespace mlxr
