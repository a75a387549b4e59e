// Mistral: Llama with one sliding window in all layers, or none. In GGUF it is a Llama.
#include "core/base/error.h"
#include "core/graph/families/llama_like.h"

namespace mlxr {
namespace {

ModelSpec from_hf(const nlohmann::json& config, const std::string& where) {
  ModelSpec spec = llama_like_from_hf("llama", config, where);
  const int32_t window = hf_integer(config, "sliding_window", 0, where);
  if (window > 0) spec.windows.assign(static_cast<size_t>(spec.layers), window);
  return spec;
}

void write_gguf(const ModelSpec& spec, GgufWriter& writer) {
  if (!spec.windows.empty()) {
    throw Error(ErrorCode::kUnsupported,
                "a Mistral with a sliding window cannot be written to GGUF, which knows it as a "
                "Llama and has no key for the window");
  }
  llama_family().write_gguf(spec, writer);
}

}  // namespace

const Family& mistral_family() {
  static const Family kFamily = {.hf_model_types = {"mistral"},
                                 .gguf_architectures = {},
                                 .from_hf = from_hf,
                                 .from_gguf = nullptr,
                                 .hf_names = common_hf_names(),
                                 .gguf_names = common_gguf_names(),
                                 .write_gguf = write_gguf,
                                 .gguf_interleaves_qk = true};
  return kFamily;
}

}  // namespace mlxr
