// An architecture family: how its two file formats describe it and name its tensors. One short file
// a family in families/, listed in family.cpp.
#pragma once

#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/graph/model_spec.h"

namespace mlxr {

class GgufFile;
class GgufWriter;

// Modules of a model; "{}" stands for the layer's number. `gate` is empty where MLPs have none.
struct TensorNames {
  std::string embedding, final_norm, output;
  std::string attn_norm, q, k, v, o;
  std::string mlp_norm, gate, up, down;
  std::string q_norm, k_norm;                 // where the spec has qk_norm
  std::string post_attn_norm, post_mlp_norm;  // where it has post_norms
  // Where it has experts. A second "{}" stands for the expert's number; without one, a tensor holds
  // all experts, [experts, rows, columns].
  std::string router, expert_gate, expert_up, expert_down;
  std::string shared_router, shared_gate, shared_up, shared_down;
  // Of an encoder. A head may be without `classifier`: its `classifier_dense` is the output then.
  std::string positions = {}, token_types = {}, embedding_norm = {};
  std::string classifier = {}, classifier_dense = {};
};

// "blk.{}.attn_q" and 3 to "blk.3.attn_q": fills the first "{}", if there is one.
std::string in_layer(const std::string& name, int32_t layer);
// True for a name that has a "{}" left.
inline bool has_place(const std::string& name) { return name.find("{}") != std::string::npos; }

struct Family {
  std::vector<std::string_view> hf_model_types;      // config.json's model_type
  std::vector<std::string_view> gguf_architectures;  // general.architecture
  ModelSpec (*from_hf)(const nlohmann::json& config, const std::string& where);
  ModelSpec (*from_gguf)(const GgufFile& file);
  TensorNames hf_names;
  TensorNames gguf_names;
  // Writes the metadata that from_gguf reads. Throws Error{kUnsupported} for what GGUF cannot say.
  void (*write_gguf)(const ModelSpec& spec, GgufWriter& writer);
  // GGUF pairs neighbouring rows of Q and K for RoPE where Hugging Face pairs halves.
  bool gguf_interleaves_qk = false;
  // Hugging Face's names begin with it, but in files that hold the model without a head.
  std::string hf_prefix = "model.";
};

// Row of a Hugging Face file's Q or K that is row `row` of GGUF's, of a family that interleaves
// them; and back.
int64_t hf_row_of_gguf(int64_t row, int64_t head_dim);
int64_t gguf_row_of_hf(int64_t row, int64_t head_dim);

// Throw Error{kUnsupported} naming the architecture and those that can be run.
const Family& family_of_hf(const std::string& model_type, const std::string& where);
const Family& family_of_gguf(const std::string& architecture, const std::string& where);

// ---- Helpers for families ----

// A number of config.json; throws Error{kCorruptFile} when it is absent (without a fallback) or not
// a number.
double hf_number(const nlohmann::json& config, const char* key, const std::string& where);
double hf_number(const nlohmann::json& config, const char* key, double fallback,
                 const std::string& where);
int32_t hf_integer(const nlohmann::json& config, const char* key, const std::string& where);
int32_t hf_integer(const nlohmann::json& config, const char* key, int32_t fallback,
                   const std::string& where);
bool hf_boolean(const nlohmann::json& config, const char* key, bool fallback);
// rope_parameters (transformers 5) or rope_theta and rope_scaling (before).
RopeSpec hf_rope(const nlohmann::json& config, int32_t head_dim, int32_t context,
                 const std::string& where);

// "ARCH.key" of the metadata.
int32_t gguf_integer(const GgufFile& file, const std::string& key);
int32_t gguf_integer(const GgufFile& file, const std::string& key, int32_t fallback);
RopeSpec gguf_rope(const GgufFile& file, const std::string& architecture, int32_t head_dim,
                   int32_t context);
// What gguf_rope reads; llama3's frequencies become the tensor rope_freqs.weight.
void write_gguf_rope(const RopeSpec& rope, const std::string& architecture, GgufWriter& writer);
TensorNames common_hf_names();
TensorNames common_gguf_names();

}  // namespace mlxr
