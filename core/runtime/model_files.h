// The two ways a model lies on disk, opened: a GGUF file, or a folder with config.json and
// safetensors. Used by what loads or measures a Model.
#pragma once

#include <filesystem>
#include <map>

#include "core/runtime/model.h"

namespace mlxr {

// Specification, weights' source, tokenizer and template of one opened model.
struct OpenedModel {
  ModelFacts facts;
  ModelSpec spec;
  TensorNames names;
  std::unique_ptr<TensorSource> source;
  std::shared_ptr<const Tokenizer> tokenizer;
  std::shared_ptr<const ChatTemplate> chat_template;
  std::vector<int32_t> stop_tokens;
  SamplingParams default_sampling;
  std::string rerank_prompt;  // of YesNoHead, where the file has one
};

// `with_text`: read tokenizer and chat template too. Throws as load_model.
OpenedModel open_model(const std::filesystem::path& path, bool with_text);
OpenedModel open_gguf_model(const std::filesystem::path& file, bool with_text);
OpenedModel open_folder_model(const std::filesystem::path& folder, bool with_text);

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
