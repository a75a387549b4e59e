// Llama 1, 2 and 3 and models of the same shape.
#include "core/graph/families/llama_like.h"

namespace mlxr {
namespace {

ModelSpec from_hf(const nlohmann::json& config, const std::string& where) {
  return llama_like_from_hf("llama", config, where);
}

ModelSpec from_gguf(const GgufFile& file) {
  ModelSpec spec = llama_like_from_gguf("llama", file);
  spec.rope.interleaved = true;        // GGUF permutes Llama's Q and K rows so
  spec.moe.router.renormalize = true;  // as Mixtral's is, which GGUF takes for a Llama
  return spec;
}

}  // namespace

const Family& llama_family() {
  static const Family kFamily = {.hf_model_types = {"llama"},
                                 .gguf_architectures = {"llama"},
                                 .from_hf = from_hf,
                                 .from_gguf = from_gguf,
                                 .hf_names = common_hf_names(),
                                 .gguf_names = common_gguf_names(),
                                 .write_gguf = write_llama_like_gguf,
                                 .gguf_interleaves_qk = true};
  return kFamily;
}

}  // namespace mlxr
