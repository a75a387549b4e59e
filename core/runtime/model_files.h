// The two ways a model lies on disk, opened: a GGUF file, or a folder with config.json and
// safetensors. Used by what loads or measures a Model.
#pragma once

#include <filesystem>
#include <functional>
#include <map>

#include "core/runtime/model.h"

namespace mlxr {

// One opened model: specification and weights' source at once, tokenizer and template later.
struct OpenedModel {
  std::filesystem::path path;
  ModelFacts facts;
  ModelSpec spec;
  TensorNames names;
  std::unique_ptr<TensorSource> source;
  // Fills in what follows, which takes a while. Throws as load_model.
  std::function<void(OpenedModel& itself)> read_text;
  std::shared_ptr<const Tokenizer> tokenizer;
  std::shared_ptr<const ChatTemplate> chat_template;
  std::vector<int32_t> stop_tokens;
  SamplingParams default_sampling;
  std::string rerank_prompt;  // of YesNoHead, where the file has one
};

// Reads headers. Throws as load_model.
OpenedModel open_model(const std::filesystem::path& path);
OpenedModel open_gguf_model(const std::filesystem::path& file);
OpenedModel open_folder_model(const std::filesystem::path& folder);

// The second half of load_model(path, options).
std::shared_ptr<const Model> load_model(OpenedModel opened, const ModelLoadOptions& options);

// Facts that follow from the weights themselves.
struct WeightTally {
  void add(const WeightView& view);
  void fill(ModelFacts& facts) const;

  int64_t parameters = 0;
  std::map<std::string, int64_t> bytes_by_format;
};

// Ids of texts that end a turn in published models ("<|im_end|>", "<|eot_id|>"...), for files that
// name only one of theirs.
void add_known_stop_tokens(const Tokenizer& tokenizer, std::vector<int32_t>& stop_tokens);

}  // namespace mlxr
