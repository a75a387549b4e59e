// What Llama and the families of its shape share: pre-norm RMSNorm, grouped-query attention with
// RoPE, SwiGLU. Biases are used where a file has them.
#pragma once

#include <string_view>
#include <vector>

#include "core/graph/families/families.h"

namespace mlxr {

// `activations`: what config.json may call the family's only one.
ModelSpec llama_like_from_hf(const std::string& architecture, const nlohmann::json& config,
                             const std::string& where,
                             const std::vector<std::string_view>& activations = {"silu"});
ModelSpec llama_like_from_gguf(const std::string& architecture, const GgufFile& file);
// Under the names of spec.architecture.
void write_llama_like_gguf(const ModelSpec& spec, GgufWriter& writer);

}  // namespace mlxr
