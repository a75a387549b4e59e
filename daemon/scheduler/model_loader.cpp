#include "daemon/scheduler/model_loader.h"

#include <spdlog/spdlog.h>

#include <chrono>

#include "core/runtime/kv/kv_plan.h"
#include "core/runtime/model_memory.h"
#include "daemon/scheduler/drafter.h"
#include "daemon/scheduler/kv_folders.h"
#include "daemon/scheduler/model_manager.h"

namespace mlxr {
namespace {

using Clock = std::chrono::steady_clock;

EngineOptions with_overrides(EngineOptions options, const ModelSettings& s) {
  if (s.context_length) options.context_length = *s.context_length;
  if (s.kv_bytes) options.kv_bytes = *s.kv_bytes;
  if (s.kv_type) options.kv_type = *s.kv_type;
  return options;
}

SchedulerOptions with_overrides(SchedulerOptions options, const ModelSettings& s) {
  SpeculationOptions& speculation = options.speculation;
  speculation.mode = s.speculation.value_or(SpeculationMode::kNgram);
  if (s.speculation_depth) speculation.depth.deepest = *s.speculation_depth;
  return options;
}

KvDiskSettings with_overrides(KvDiskSettings settings, const ModelSettings& s) {
  if (s.kv_disk) settings.enabled = *s.kv_disk;
  if (s.kv_disk_bytes) settings.bytes = *s.kv_disk_bytes;
  return settings;
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

// A draft's arena has as many blocks as the model's.
EngineOptions draft_options(const EngineOptions& options, const ModelSpec& draft, int64_t blocks) {
  EngineOptions own = options;
  own.kv_bytes = plan_kv(draft, options).shape.block_bytes() * blocks;
  return own;
}

// What is wrong with one is told to those who ask for it.
std::vector<AdapterMemory> adapters_of(const ModelSettings& s, const ModelFacts& facts,
                                       const ModelSpec& spec) {
  std::vector<AdapterMemory> all;
  for (const AdapterSettings& adapter : s.adapters) {
    try {
      all.push_back(read_adapter_memory(adapter.path, facts, spec));
    } catch (const Error& error) {
      spdlog::warn("the adapter \"{}\" cannot be used: {}", adapter.name, error.what());
    }
  }
  return all;
}

class FileModelLoader : public ModelLoader {
 public:
  FileModelLoader(const ModelManagerOptions& options,
                  std::function<ModelEntry(const std::string&)> find)
      : repack_(options.repack),
        scheduler_(options.scheduler),
        engine_(options.engine),
        kv_disk_(options.kv_disk),
        threads_(std::make_shared<ThreadPool>(options.threads)),
        find_(std::move(find)) {}

  MemoryEstimate estimate(const ModelEntry& entry, const ModelSettings& s) const override;
  std::shared_ptr<ServedModel> load(const ModelEntry& entry, const ModelSettings& s,
                                    const MemoryEstimate& estimate) override;

 private:
  std::filesystem::path draft_path(const ModelSettings& s) const;
  SchedulerOptions scheduler_options(const ModelSpec& spec, const ModelSettings& s) const;
  KvDiskSettings disk_settings(const ModelSpec& spec, const ModelSettings& s) const;
  std::unique_ptr<Engine> load_draft(const Engine& engine, const EngineOptions& engine_options,
                                     const ModelSettings& s) const;

  const bool repack_;
  const SchedulerOptions scheduler_;
  const EngineOptions engine_;
  const KvDiskSettings kv_disk_;
  const std::shared_ptr<ThreadPool> threads_;
  const std::function<ModelEntry(const std::string&)> find_;
};

std::filesystem::path FileModelLoader::draft_path(const ModelSettings& s) const {
  if (!s.draft_model) {
    throw Error(ErrorCode::kInvalidArgument,
                "speculation: draft needs a draft_model; name one in the model's settings");
  }
  const bool is_path = s.draft_model->find('/') != std::string::npos;
  return is_path ? std::filesystem::path(*s.draft_model) : find_(*s.draft_model).path;
}

MemoryEstimate FileModelLoader::estimate(const ModelEntry& entry, const ModelSettings& s) const {
  const EngineOptions engine = with_overrides(engine_, s);
  const ModelMemory memory = read_model_memory(entry.path, repack_);
  const SchedulerOptions scheduler = scheduler_options(memory.spec, s);
  const KvPlan kv = plan_kv(memory.spec, engine);
  const bool kv_disk = disk_settings(memory.spec, s).enabled;
  MemoryEstimate sum =
      estimate_memory(memory, kv, scheduler, kv_disk, adapters_of(s, memory.facts, memory.spec));
  if (scheduler.speculation.mode == SpeculationMode::kDraft) {
    const ModelMemory draft = read_model_memory(draft_path(s), repack_);
    const EngineOptions own = draft_options(engine, draft.spec, kv.blocks);
    // Its own steps are plain ones.
    SchedulerOptions plain = scheduler;
    plain.speculation.mode = SpeculationMode::kOff;
    sum += estimate_memory(draft, plan_kv(draft.spec, own), plain, false);
  }
  return sum;
}

// An encoder has no answers to speculate on, and leaves no keys and values behind.
SchedulerOptions FileModelLoader::scheduler_options(const ModelSpec& spec,
                                                    const ModelSettings& s) const {
  SchedulerOptions options = with_overrides(scheduler_, s);
  if (spec.encoder) options.speculation.mode = SpeculationMode::kOff;
  return options;
}

KvDiskSettings FileModelLoader::disk_settings(const ModelSpec& spec, const ModelSettings& s) const {
  KvDiskSettings settings = with_overrides(kv_disk_, s);
  settings.enabled = settings.enabled && !spec.encoder;
  return settings;
}

// The engine of the settings' draft model.
std::unique_ptr<Engine> FileModelLoader::load_draft(const Engine& engine,
                                                    const EngineOptions& engine_options,
                                                    const ModelSettings& s) const {
  const auto model = load_model(draft_path(s), {.repack = repack_ ? threads_ : nullptr});
  check_same_vocabulary(engine.model(), *model);
  const int64_t blocks = engine.kv_bytes() / engine.block_bytes();
  return std::make_unique<Engine>(model, draft_options(engine_options, model->spec, blocks),
                                  threads_);
}

std::shared_ptr<ServedModel> FileModelLoader::load(const ModelEntry& entry, const ModelSettings& s,
                                                   const MemoryEstimate& estimate) {
  const auto begin = Clock::now();
  const ModelLoadOptions load_options{
      .repack = repack_ ? threads_ : nullptr, .require_tokenizer = true, .pooling = s.pooling};
  const auto model = with_template(load_model(entry.path, load_options), s);
  const EngineOptions engine_options = with_overrides(engine_, s);
  SchedulerOptions options = scheduler_options(model->spec, s);
  options.name = entry.name;
  auto engine = std::make_unique<Engine>(model, engine_options, threads_);
  std::unique_ptr<Engine> draft;
  if (options.speculation.mode == SpeculationMode::kDraft) {
    draft = load_draft(*engine, engine_options, s);
  }
  auto adapters = std::make_unique<AdapterStore>(
      entry.name, s.adapters, [model, pool = threads_](const std::filesystem::path& path) {
        return load_adapter(path, *model, *pool);
      });
  // Those that every request gets: what is wrong with one is told now.
  adapters->chosen(std::nullopt);
  auto disk = open_kv_disk(*engine, entry.name, disk_settings(model->spec, s));
  auto scheduler =
      std::make_unique<Scheduler>(std::move(engine), options, std::move(draft), std::move(disk));
  const double taken = std::chrono::duration<double>(Clock::now() - begin).count();
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::make_shared<ServedModel>(
      std::move(scheduler), std::move(adapters),
      ServedModelFacts{.name = entry.name,
                       .default_sampling = with_overrides(model->default_sampling, s),
                       .memory = estimate,
                       .pinned = s.pin.value_or(false),
                       .truncates = s.truncate.value_or(false),
                       .shifts = s.shift,
                       .load_seconds = taken,
                       .loaded_at = std::chrono::duration_cast<std::chrono::seconds>(now).count()});
}

}  // namespace

std::unique_ptr<ModelLoader> file_model_loader(
    const ModelManagerOptions& options, std::function<ModelEntry(const std::string& name)> find) {
  return std::make_unique<FileModelLoader>(options, std::move(find));
}

}  // namespace mlxr
