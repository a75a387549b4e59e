// StarCoder 2: LayerNorms and products with biases, and a plain feed-forward block with GELU.
#include "core/base/error.h"
#include "core/graph/families/llama_like.h"

namespace mlxr {
namespace {

ModelSpec starcoder2(ModelSpec spec) {
  spec.norm = cpu::NormKind::kLayer;
  spec.activation = cpu::Activation::kGeluTanh;
  spec.gated_mlp = false;
  return spec;
}

ModelSpec from_hf(const nlohmann::json& config, const std::string& where) {
  ModelSpec spec =
      starcoder2(llama_like_from_hf("starcoder2", config, where, {"gelu_pytorch_tanh"}));
  spec.norm_eps = static_cast<float>(hf_number(config, "norm_epsilon", 1e-5, where));
  spec.tied_embeddings = hf_boolean(config, "tie_word_embeddings", true);
  const int32_t window = hf_integer(config, "sliding_window", 0, where);
  if (window > 0) spec.windows.assign(static_cast<size_t>(spec.layers), window);
  return spec;
}

ModelSpec from_gguf(const GgufFile& file) {
  return starcoder2(llama_like_from_gguf("starcoder2", file));
}

void write_gguf(const ModelSpec& spec, GgufWriter& writer) {
  if (!spec.windows.empty()) {
    throw Error(ErrorCode::kUnsupported,
                "a StarCoder 2 with a sliding window cannot be written to GGUF, which has no key "
                "for it");
  }
  write_llama_like_gguf(spec, writer);
}

TensorNames hf_names() {
  TensorNames names = common_hf_names();
  names.gate = "";
  names.up = "model.layers.{}.mlp.c_fc";
  names.down = "model.layers.{}.mlp.c_proj";
  return names;
}

}  // namespace

const Family& starcoder2_family() {
  static const Family kFamily = {.hf_model_types = {"starcoder2"},
                                 .gguf_architectures = {"starcoder2"},
                                 .from_hf = from_hf,
                                 .from_gguf = from_gguf,
                                 .hf_names = hf_names(),
                                 .gguf_names = common_gguf_names(),
                                 .write_gguf = write_gguf};
  return kFamily;
}

}  // namespace mlxr
