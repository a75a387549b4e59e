// A model on disk, opened: its specification, weights (memory-mapped), tokenizer and chat template.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/base/mapped_file.h"
#include "core/graph/decoder.h"
#include "core/graph/encoder.h"
#include "core/graph/model_spec.h"
#include "core/runtime/chat/chat_template.h"
#include "core/runtime/constraint/constraint.h"
#include "core/runtime/embedding/pooling.h"
#include "core/runtime/embedding/reranker.h"
#include "core/runtime/sampler/sampling_params.h"
#include "core/runtime/tokenizer/tokenizer.h"

namespace mlxr {

enum class ModelFormat { kGguf, kSafetensors, kMlx };
const char* to_string(ModelFormat format);

// What a file says of itself, read without touching weights.
struct ModelFacts {
  ModelFormat format = ModelFormat::kGguf;
  std::string architecture;  // as the file says: "llama"
  std::string quantization;  // the format of most weight bytes: "Q8_0", "BF16", "MLX4-G64"
  int64_t parameters = 0;
  int64_t weight_bytes = 0;
  int32_t context_length = 0;  // what the model was trained for, tokens
  int32_t vocab_size = 0;
  int32_t hidden_size = 0;
  int32_t layers = 0;
  int32_t kv_layers = 0, kv_heads = 0, head_dim = 0;  // of the keys and values that are kept
  int32_t window_layers = 0, window = 0;  // of these layers, and the widest of their windows
  bool encoder = false;                   // it makes embeddings, and cannot answer
  std::optional<Pooling> pooling;  // as the model was trained; nothing: it was not, for embeddings
};

// Everything that a request needs of a model beside its logits. Immutable, shared by threads.
struct Model {
  std::filesystem::path path;
  ModelFacts facts;
  ModelSpec spec;
  std::shared_ptr<const Tokenizer> tokenizer;         // null when the model has none
  std::shared_ptr<const ChatTemplate> chat_template;  // null when the model has none
  std::vector<int32_t> stop_tokens;                   // end-of-turn and end-of-text ids
  std::shared_ptr<ConstraintCompiler> constraints;    // null when the model has no tokenizer
  SamplingParams default_sampling;                    // from generation_config.json, where present
  std::shared_ptr<const DecoderWeights> weights;      // null for an encoder
  std::shared_ptr<const EncoderWeights> encoder;      // null for a decoder
  std::optional<YesNoHead> yes_no;                    // of a causal model that judges documents
  std::vector<std::shared_ptr<const MappedFile>> files;  // where weights lie, or lay
  int64_t repacked_bytes = 0;  // memory of weights interleaved at load (ModelLoadOptions)
  double repack_seconds = 0;
};

struct ModelLoadOptions {
  // Interleaves quantised weights with these threads, for speed: the same bits in memory of our
  // own, once (docs/decisions/0005). Null: they are used where they lie in the file.
  std::shared_ptr<ThreadPool> repack;
  bool require_tokenizer = true;        // false: goldens and random-weight models have none
  std::optional<Pooling> pooling = {};  // instead of what the files say
};

// As MappedFile::check_intact, for each of the model's files.
void check_intact(const Model& model);

// Throws Error{kInvalidArgument} for an encoder.
void check_can_answer(const Model& model);

// How the model makes one vector of a text: as it was trained, or else by the last token, which
// alone has seen all others; of an encoder, the mean.
Pooling embedding_pooling(const Model& model);

// True when `path` looks like a model: a .gguf file, or a folder with config.json and safetensors.
bool is_model_path(const std::filesystem::path& path);

// Throws Error{kNotFound, kCorruptFile, kUnsupported}: one sentence that names the file.
std::shared_ptr<const Model> load_model(const std::filesystem::path& path,
                                        const ModelLoadOptions& options = {});
// The facts alone (for `mlx list` and `mlx show`): reads headers, not weights.
ModelFacts read_model_facts(const std::filesystem::path& path);

}  // namespace mlxr
