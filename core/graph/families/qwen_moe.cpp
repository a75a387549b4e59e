// Qwen's mixtures: Qwen 2 with a shared expert behind a sigmoid gate, whose router's weights need
// not sum to one; Qwen 3 without one.
#include <algorithm>

#include "core/base/error.h"
#include "core/graph/families/llama_like.h"

namespace mlxr {
namespace {

using nlohmann::json;

// Layers without experts: those that are listed, and all but every `step`-th.
std::vector<int32_t> dense_layers(const json& config, int32_t layers, const std::string& where) {
  std::vector<int32_t> dense;
  const int32_t step = hf_integer(config, "decoder_sparse_step", 1, where);
  const auto listed = config.find("mlp_only_layers");
  for (int32_t i = 0; i < layers; ++i) {
    const bool named = listed != config.end() && listed->is_array() &&
                       std::find(listed->begin(), listed->end(), i) != listed->end();
    if (named || step < 1 || (i + 1) % step != 0) dense.push_back(i);
  }
  return dense;
}

void add_experts(ModelSpec& spec, const json& config, const std::string& where) {
  // The first name is what the models' makers and older releases of transformers write.
  const char* count = config.contains("num_experts") ? "num_experts" : "num_local_experts";
  spec.moe.experts = hf_integer(config, count, where);
  spec.moe.router.used = hf_integer(config, "num_experts_per_tok", where);
  spec.moe.router.renormalize = hf_boolean(config, "norm_topk_prob", false);
  spec.moe.ffn = hf_integer(config, "moe_intermediate_size", where);
  spec.moe.dense_layers = dense_layers(config, spec.layers, where);
}

ModelSpec qwen2_from_hf(const json& config, const std::string& where) {
  ModelSpec spec = qwen2_family().from_hf(config, where);
  spec.architecture = "qwen2moe";
  add_experts(spec, config, where);
  spec.moe.shared_ffn = hf_integer(config, "shared_expert_intermediate_size", where);
  spec.moe.shared_gate = true;
  return spec;
}

ModelSpec qwen2_from_gguf(const GgufFile& file) {
  ModelSpec spec = llama_like_from_gguf("qwen2moe", file);
  spec.moe.shared_gate = true;
  return spec;
}

ModelSpec qwen3_from_hf(const json& config, const std::string& where) {
  ModelSpec spec = qwen3_family().from_hf(config, where);
  spec.architecture = "qwen3moe";
  add_experts(spec, config, where);
  return spec;
}

ModelSpec qwen3_from_gguf(const GgufFile& file) {
  ModelSpec spec = llama_like_from_gguf("qwen3moe", file);
  spec.qk_norm = true;
  spec.moe.router.renormalize = true;
  return spec;
}

// GGUF does not say whether weights are divided by their sum: each architecture has one answer.
void write_gguf(const ModelSpec& spec, GgufWriter& writer) {
  if (spec.moe.router.renormalize != (spec.architecture == "qwen3moe")) {
    throw Error(ErrorCode::kUnsupported, "GGUF has no key for this model's \"norm_topk_prob\"");
  }
  write_llama_like_gguf(spec, writer);
}

}  // namespace

const Family& qwen2_moe_family() {
  static const Family kFamily = {.hf_model_types = {"qwen2_moe"},
                                 .gguf_architectures = {"qwen2moe"},
                                 .from_hf = qwen2_from_hf,
                                 .from_gguf = qwen2_from_gguf,
                                 .hf_names = common_hf_names(),
                                 .gguf_names = common_gguf_names(),
                                 .write_gguf = write_gguf};
  return kFamily;
}

const Family& qwen3_moe_family() {
  static const Family kFamily = {.hf_model_types = {"qwen3_moe"},
                                 .gguf_architectures = {"qwen3moe"},
                                 .from_hf = qwen3_from_hf,
                                 .from_gguf = qwen3_from_gguf,
                                 .hf_names = common_hf_names(),
                                 .gguf_names = common_gguf_names(),
                                 .write_gguf = write_gguf};
  return kFamily;
}

}  // namespace mlxr
