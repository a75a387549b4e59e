// Qwen 2 and 2.5: Llama with biases on Q, K and V, and the halves of a head rotated in both
// formats.
#include "core/base/error.h"
#include "core/graph/families/llama_like.h"

namespace mlxr {
namespace {

ModelSpec from_hf(const nlohmann::json& config, const std::string& where) {
  if (hf_boolean(config, "use_sliding_window", false)) {
    throw Error(ErrorCode::kUnsupported,
                where + " asks for sliding windows, which this build does not run for Qwen 2");
  }
  return llama_like_from_hf("qwen2", config, where);
}

ModelSpec from_gguf(const GgufFile& file) { return llama_like_from_gguf("qwen2", file); }

}  // namespace

const Family& qwen2_family() {
  static const Family kFamily = {.hf_model_types = {"qwen2"},
                                 .gguf_architectures = {"qwen2"},
                                 .from_hf = from_hf,
                                 .from_gguf = from_gguf,
                                 .hf_names = common_hf_names(),
                                 .gguf_names = common_gguf_names(),
                                 .write_gguf = write_llama_like_gguf,
                                 .gguf_interleaves_qk = false};
  return kFamily;
}

}  // namespace mlxr
