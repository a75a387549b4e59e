// Mixtral: Mistral with experts, whose weights are the softmax of the chosen ones' logits. In GGUF
// it is a Llama with experts.
#include "core/base/error.h"
#include "core/graph/families/llama_like.h"

namespace mlxr {
namespace {

ModelSpec from_hf(const nlohmann::json& config, const std::string& where) {
  ModelSpec spec = mistral_family().from_hf(config, where);
  spec.moe.experts = hf_integer(config, "num_local_experts", where);
  spec.moe.router.used = hf_integer(config, "num_experts_per_tok", where);
  spec.moe.router.renormalize = true;
  spec.moe.ffn = spec.ffn;
  return spec;
}

TensorNames hf_names() {
  TensorNames names = common_hf_names();
  names.router = "model.layers.{}.block_sparse_moe.gate";
  names.expert_gate = "model.layers.{}.block_sparse_moe.experts.{}.w1";
  names.expert_up = "model.layers.{}.block_sparse_moe.experts.{}.w3";
  names.expert_down = "model.layers.{}.block_sparse_moe.experts.{}.w2";
  return names;
}

}  // namespace

const Family& mixtral_family() {
  static const Family kFamily = {.hf_model_types = {"mixtral"},
                                 .gguf_architectures = {},
                                 .from_hf = from_hf,
                                 .from_gguf = nullptr,
                                 .hf_names = hf_names(),
                                 .gguf_names = common_gguf_names(),
                                 .write_gguf = mistral_family().write_gguf,
                                 .gguf_interleaves_qk = true};
  return kFamily;
}

}  // namespace mlxr
