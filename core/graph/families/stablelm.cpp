// StableLM 2 and 3: Llama with LayerNorms that have biases, and part of a head rotated.
#include "core/base/error.h"
#include "core/graph/families/llama_like.h"

namespace mlxr {
namespace {

ModelSpec from_hf(const nlohmann::json& config, const std::string& where) {
  for (const char* key : {"use_parallel_residual", "qk_layernorm"}) {
    if (hf_boolean(config, key, false)) {
      throw Error(ErrorCode::kUnsupported,
                  where + " sets \"" + key + "\", which this build does not run for StableLM");
    }
  }
  ModelSpec spec = llama_like_from_hf("stablelm", config, where);
  spec.norm = cpu::NormKind::kLayer;
  spec.norm_eps = static_cast<float>(hf_number(config, "layer_norm_eps", 1e-5, where));
  return spec;
}

ModelSpec from_gguf(const GgufFile& file) {
  ModelSpec spec = llama_like_from_gguf("stablelm", file);
  spec.norm = cpu::NormKind::kLayer;
  return spec;
}

}  // namespace

const Family& stablelm_family() {
  static const Family kFamily = {.hf_model_types = {"stablelm"},
                                 .gguf_architectures = {"stablelm"},
                                 .from_hf = from_hf,
                                 .from_gguf = from_gguf,
                                 .hf_names = common_hf_names(),
                                 .gguf_names = common_gguf_names(),
                                 .write_gguf = write_llama_like_gguf};
  return kFamily;
}

}  // namespace mlxr
