#include "daemon/scheduler/model_loader.h"

#include <spdlog/spdlog.h>

#include <chrono>
#include <optional>
#include <utility>

#include "core/runtime/kv/kv_plan.h"
#include "core/runtime/model_files.h"
#include "core/runtime/model_memory.h"
#include "daemon/scheduler/file_stamp.h"
#include "daemon/scheduler/kv_folders.h"
#include "daemon/scheduler/model_manager.h"

namespace mlxr {

EngineOptions engine_options(EngineOptions options, const ModelSettings& s) {
  if (s.context_length) options.context_length = *s.context_length;
  if (s.kv_bytes) options.kv_bytes = *s.kv_bytes;
  if (s.kv_type) options.kv_type = *s.kv_type;
  return options;
}

namespace {

using Clock = std::chrono::steady_clock;

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
  own.kv_bytes = plan_kv_blocks(draft, options, blocks).bytes();
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

// What all models have alike, but for their own settings.
struct Common {
  bool repack = false;
  SchedulerOptions scheduler;
  EngineOptions engine;
  KvDiskSettings kv_disk;
  std::shared_ptr<ThreadPool> threads;
  std::shared_ptr<OpenKvDisks> disks;
  std::function<ModelEntry(const std::string&)> find;

  ModelLoadOptions load_options() const { return {.repack = repack ? threads : nullptr}; }
};

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

class FileModel : public ModelLoader::Opened {
 public:
  FileModel(const Common& common, ModelEntry entry, ModelSettings settings);
  const MemoryEstimate& estimate() const override { return estimate_; }
  std::shared_ptr<ServedModel> load() override;

 private:
  bool drafts() const { return scheduler_.speculation.mode == SpeculationMode::kDraft; }
  std::filesystem::path draft_path() const;
  OpenedModel open_draft() const;
  MemoryEstimate estimated() const;
  std::unique_ptr<Engine> load_draft(Engine& engine);

  const Common& common_;
  const Clock::time_point began_ = Clock::now();
  const ModelEntry entry_;
  const ModelSettings settings_;
  const EngineOptions engine_;
  OpenedModel model_;
  const SchedulerOptions scheduler_;
  const KvDiskSettings kv_disk_;
  std::optional<OpenedModel> draft_;
  const MemoryEstimate estimate_;
  const double opening_seconds_;
};

// An encoder has no answers to speculate on, and leaves no keys and values behind.
SchedulerOptions without_answers(SchedulerOptions options, const ModelSpec& spec) {
  if (spec.encoder) options.speculation.mode = SpeculationMode::kOff;
  return options;
}

KvDiskSettings without_answers(KvDiskSettings settings, const ModelSpec& spec) {
  settings.enabled = settings.enabled && !spec.encoder;
  return settings;
}

FileModel::FileModel(const Common& common, ModelEntry entry, ModelSettings settings)
    : common_(common),
      entry_(std::move(entry)),
      settings_(std::move(settings)),
      engine_(engine_options(common.engine, settings_)),
      model_(open_model(entry_.path)),
      scheduler_(without_answers(with_overrides(common.scheduler, settings_), model_.spec)),
      kv_disk_(without_answers(with_overrides(common.kv_disk, settings_), model_.spec)),
      draft_(drafts() ? std::optional(open_draft()) : std::nullopt),
      estimate_(estimated()),
      opening_seconds_(seconds_since(began_)) {}

std::filesystem::path FileModel::draft_path() const {
  const auto& draft = settings_.draft_model;
  if (!draft) {
    throw Error(ErrorCode::kInvalidArgument,
                "speculation: draft needs a draft_model; name one in the model's settings");
  }
  const bool is_path = draft->find('/') != std::string::npos;
  return is_path ? std::filesystem::path(*draft) : common_.find(*draft).path;
}

OpenedModel FileModel::open_draft() const {
  OpenedModel draft = open_model(draft_path());
  if (!draft.spec.encoder) return draft;
  throw Error(ErrorCode::kInvalidArgument,
              "the draft model " + draft_path().string() +
                  " is an encoder and writes no text; choose another one, or speculation: ngram");
}

MemoryEstimate FileModel::estimated() const {
  const ModelMemory memory = model_memory(model_, common_.repack);
  const KvPlan kv = plan_kv(memory.spec, engine_);
  MemoryEstimate sum = estimate_memory(memory, kv, scheduler_, kv_disk_.enabled,
                                       adapters_of(settings_, memory.facts, memory.spec));
  if (!draft_) return sum;
  const ModelMemory draft = model_memory(*draft_, common_.repack);
  const EngineOptions own = draft_options(engine_, draft.spec, kv.blocks);
  // Its own steps are plain ones.
  SchedulerOptions plain = scheduler_;
  plain.speculation.mode = SpeculationMode::kOff;
  return sum += estimate_memory(draft, plan_kv(draft.spec, own), plain, false);
}

// The engine of the settings' draft model.
std::unique_ptr<Engine> FileModel::load_draft(Engine& engine) {
  const auto model = load_model(*std::exchange(draft_, std::nullopt), common_.load_options());
  const int64_t blocks = engine.pager().total_blocks();
  return std::make_unique<Engine>(model, draft_options(engine_, model->spec, blocks),
                                  common_.threads);
}

std::shared_ptr<ServedModel> FileModel::load() {
  const auto begin = Clock::now();
  ModelLoadOptions load_options = common_.load_options();
  load_options.pooling = settings_.pooling;
  const auto model = with_template(load_model(std::move(model_), load_options), settings_);
  auto engine = std::make_unique<Engine>(model, engine_, common_.threads);
  auto draft = drafts() ? load_draft(*engine) : nullptr;
  auto adapters = std::make_unique<AdapterStore>(
      entry_.name, settings_.adapters,
      [model, pool = common_.threads](const std::filesystem::path& path) {
        return load_adapter(path, *model, *pool);
      },
      [model, tokens = scheduler_.max_batch_tokens](const std::filesystem::path& path) {
        const AdapterMemory memory = read_adapter_memory(path, model->facts, model->spec);
        return memory.bytes + adapter_activation_bytes(tokens, memory.rank);
      });
  // Those that every request gets: what is wrong with one is told now.
  adapters->chosen(std::nullopt);
  auto disk = open_kv_disk(*common_.disks, *engine, entry_.name, kv_disk_);
  // Blocks are kept by the file's identity, which would be that of other weights.
  if (file_stamp(entry_.path) != entry_.stamp) disk.reset();
  SchedulerOptions options = scheduler_;
  options.name = entry_.name;
  auto scheduler =
      std::make_unique<Scheduler>(std::move(engine), options, std::move(draft), std::move(disk));
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::make_shared<ServedModel>(
      std::move(scheduler), std::move(adapters),
      ServedModelFacts{.name = entry_.name,
                       .default_sampling = with_overrides(model->default_sampling, settings_),
                       .memory = estimate_,
                       .pinned = settings_.pin.value_or(false),
                       .truncates = settings_.truncate.value_or(false),
                       .shifts = settings_.shift,
                       .load_seconds = opening_seconds_ + seconds_since(begin),
                       .loaded_at = std::chrono::duration_cast<std::chrono::seconds>(now).count()});
}

class FileModelLoader : public ModelLoader {
 public:
  explicit FileModelLoader(Common common) : common_(std::move(common)) {}
  std::unique_ptr<Opened> open(const ModelEntry& entry, const ModelSettings& settings) override {
    return std::make_unique<FileModel>(common_, entry, settings);
  }

 private:
  const Common common_;
};

}  // namespace

std::unique_ptr<ModelLoader> file_model_loader(
    const ModelManagerOptions& options, std::function<ModelEntry(const std::string& name)> find) {
  return std::make_unique<FileModelLoader>(
      Common{.repack = options.repack,
             .scheduler = options.scheduler,
             .engine = options.engine,
             .kv_disk = options.kv_disk,
             .threads = std::make_shared<ThreadPool>(options.threads),
             .disks = std::make_shared<OpenKvDisks>(),
             .find = std::move(find)});
}

}  // namespace mlxr
