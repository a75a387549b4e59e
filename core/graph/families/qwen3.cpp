// Qwen 3: Qwen 2 without biases, with a norm of every head of Q and K before it is rotated.
#include "core/base/error.h"
#include "core/graph/families/llama_like.h"

namespace mlxr {
namespace {

ModelSpec from_hf(const nlohmann::json& config, const std::string& where) {
  if (hf_boolean(config, "use_sliding_window", false)) {
    throw Error(ErrorCode::kUnsupported,
                where + " asks for sliding windows, which this build does not run for Qwen 3");
  }
  ModelSpec spec = llama_like_from_hf("qwen3", config, where);
  spec.qk_norm = true;
  return spec;
}

ModelSpec from_gguf(const GgufFile& file) {
  ModelSpec spec = llama_like_from_gguf("qwen3", file);
  spec.qk_norm = true;
  return spec;
}

}  // namespace

const Family& qwen3_family() {
  static const Family kFamily = {.hf_model_types = {"qwen3"},
                                 .gguf_architectures = {"qwen3"},
                                 .from_hf = from_hf,
                                 .from_gguf = from_gguf,
                                 .hf_names = common_hf_names(),
                                 .gguf_names = common_gguf_names(),
                                 .write_gguf = write_llama_like_gguf,
                                 .gguf_interleaves_qk = false};
  return kFamily;
}

}  // namespace mlxr
