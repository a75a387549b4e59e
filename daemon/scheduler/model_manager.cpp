#include "daemon/scheduler/model_manager.h"

#include <chrono>
#include <future>
#include <map>
#include <mutex>

#include "core/base/nearest_names.h"

namespace mlxr {
namespace {

using Clock = std::chrono::steady_clock;
using ServedPtr = std::shared_ptr<ServedModel>;

EngineOptions with_overrides(EngineOptions options, const ModelSettings& s) {
  if (s.context_length) options.context_length = *s.context_length;
  if (s.kv_bytes) options.kv_bytes = *s.kv_bytes;
  if (s.kv_type) options.kv_type = *s.kv_type;
  return options;
}

std::shared_ptr<const Model> with_template(std::shared_ptr<const Model> model,
                                           const ModelSettings& settings) {
  if (!settings.chat_template) return model;
  const std::string eos =
      model->stop_tokens.empty() ? "" : model->tokenizer->token_bytes(model->stop_tokens.front());
  auto copy = std::make_shared<Model>(*model);
  copy->chat_template = std::make_shared<ChatTemplate>(*settings.chat_template, "", eos);
  return copy;
}

}  // namespace

SamplingParams with_overrides(SamplingParams params, const ModelSettings& s) {
  if (s.temperature) params.temperature = *s.temperature;
  if (s.top_p) params.top_p = *s.top_p;
  if (s.top_k) params.top_k = *s.top_k;
  if (s.min_p) params.min_p = *s.min_p;
  if (s.repeat_penalty) params.repeat_penalty = *s.repeat_penalty;
  return params;
}

ServedModel::ServedModel(std::string name, std::unique_ptr<Scheduler> scheduler,
                         SamplingParams defaults, double load_seconds, int64_t loaded_at)
    : name_(std::move(name)),
      scheduler_(std::move(scheduler)),
      defaults_(std::move(defaults)),
      load_seconds_(load_seconds),
      loaded_at_(loaded_at) {}

LoadedModelInfo ServedModel::info() const {
  return {.name = name_,
          .facts = model().facts,
          .context_length = scheduler_->context_length(),
          .kv_bytes = scheduler_->kv_bytes(),
          .stats = scheduler_->stats(),
          .load_seconds = load_seconds_,
          .repacked_bytes = model().repacked_bytes,
          .repack_seconds = model().repack_seconds,
          .loaded_at = loaded_at_};
}

struct ModelManager::Impl {
  ModelManagerOptions options;
  std::function<ModelSettings(const std::string&)> settings;
  std::shared_ptr<ThreadPool> threads;

  mutable std::mutex mutex;
  std::vector<std::filesystem::path> paths;  // configured and added; one a name
  bool draining = false;
  // A load in flight or done. Keyed by name; the path tells when a name has come to mean another
  // file.
  struct Slot {
    std::filesystem::path path;
    std::shared_future<ServedPtr> model;
  };
  std::map<std::string, Slot> slots;

  CatalogSources sources() const {
    // The first model that the user named, else the built-in one; add_path never changes it.
    const auto& named = options.model_paths;
    const std::string preferred = !named.empty()          ? model_name(named.front())
                                  : options.default_model ? model_name(*options.default_model)
                                                          : "";
    return {.paths = paths,
            .folders = options.model_folders,
            .builtin = options.default_model,
            .default_name = preferred};
  }
  ServedPtr load(const ModelEntry& entry) const;
  std::vector<ServedPtr> ready() const;
};

ModelManager::ModelManager(ModelManagerOptions options,
                           std::function<ModelSettings(const std::string& name)> settings)
    : impl_(std::make_unique<Impl>()) {
  impl_->paths = options.model_paths;
  impl_->threads = std::make_shared<ThreadPool>(options.threads);
  impl_->options = std::move(options);
  impl_->settings = std::move(settings);
}

ModelManager::~ModelManager() = default;

std::vector<ModelEntry> ModelManager::list() const {
  std::unique_lock lock(impl_->mutex);
  const CatalogSources sources = impl_->sources();
  lock.unlock();
  return list_models(sources);
}

ModelEntry ModelManager::find(const std::string& name) const {
  const std::vector<ModelEntry> entries = list();
  std::vector<std::string> names;
  for (const ModelEntry& entry : entries) {
    if (name.empty() ? entry.is_default : entry.name == name) return entry;
    names.push_back(entry.name);
  }
  if (name.empty()) {
    throw Error(ErrorCode::kNotFound, "the request names no model, and there is no default");
  }
  std::string message = "there is no model \"" + name + "\"";
  const auto near = nearest_names(name, names, 3);
  for (size_t i = 0; i < near.size(); ++i) {
    message += (i == 0 ? "; did you mean \"" : "\" or \"") + near[i];
  }
  throw Error(ErrorCode::kNotFound,
              message + (near.empty() ? "; `mlx list` shows what there is" : "\"?"));
}

ServedPtr ModelManager::Impl::load(const ModelEntry& entry) const {
  const auto begin = Clock::now();
  const ModelSettings s = settings ? settings(entry.name) : ModelSettings();
  const ModelLoadOptions load_options{.repack = options.repack ? threads : nullptr};
  const auto model = with_template(load_model(entry.path, load_options), s);
  auto engine = std::make_unique<Engine>(model, with_overrides(options.engine, s), threads);
  auto scheduler = std::make_unique<Scheduler>(std::move(engine), options.scheduler);
  const double taken = std::chrono::duration<double>(Clock::now() - begin).count();
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::make_shared<ServedModel>(
      entry.name, std::move(scheduler), with_overrides(model->default_sampling, s), taken,
      std::chrono::duration_cast<std::chrono::seconds>(now).count());
}

ServedPtr ModelManager::acquire(const std::string& name) {
  const ModelEntry entry = find(name);
  std::promise<ServedPtr> promise;
  {
    std::unique_lock lock(impl_->mutex);
    if (impl_->draining) throw Error(ErrorCode::kUnavailable, "the daemon is shutting down");
    const auto slot = impl_->slots.find(entry.name);
    if (slot != impl_->slots.end() && slot->second.path == entry.path) {
      const auto future = slot->second.model;
      lock.unlock();
      return future.get();  // waits for a load in flight; rethrows its failure
    }
    impl_->slots.insert_or_assign(entry.name, Impl::Slot{entry.path, promise.get_future().share()});
  }
  try {
    ServedPtr model = impl_->load(entry);
    promise.set_value(model);
    return model;
  } catch (...) {
    {  // the next request tries again
      const std::lock_guard lock(impl_->mutex);
      const auto slot = impl_->slots.find(entry.name);
      if (slot != impl_->slots.end() && slot->second.path == entry.path) impl_->slots.erase(slot);
    }
    promise.set_exception(std::current_exception());
    throw;
  }
}

std::vector<ServedPtr> ModelManager::Impl::ready() const {
  std::vector<ServedPtr> out;
  const std::lock_guard lock(mutex);
  for (const auto& [name, slot] : slots) {
    const bool done = slot.model.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
    if (!done) continue;
    try {
      out.push_back(slot.model.get());
    } catch (const std::exception&) {  // a failed load, about to leave the map
    }
  }
  return out;
}

std::vector<LoadedModelInfo> ModelManager::loaded() const {
  std::vector<LoadedModelInfo> out;
  for (const ServedPtr& model : impl_->ready()) out.push_back(model->info());
  return out;
}

bool ModelManager::unload(const std::string& name) {
  std::shared_future<ServedPtr> future;
  {
    const std::lock_guard lock(impl_->mutex);
    const auto slot = impl_->slots.find(name);
    if (slot == impl_->slots.end()) return false;
    future = slot->second.model;
    impl_->slots.erase(slot);
  }
  // The model goes when the last request that holds it lets go.
  future.wait();
  return true;
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

void ModelManager::drain(std::chrono::milliseconds timeout) {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->draining = true;
  }
  const auto deadline = Clock::now() + timeout;
  for (const ServedPtr& model : impl_->ready()) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now());
    model->scheduler().drain(std::max(left, std::chrono::milliseconds(0)));
  }
}

}  // namespace mlxr
