#include "core/graph/families/llama_like.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/formats/gguf_reader.h"
#include "core/formats/gguf_writer.h"

namespace mlxr {

namespace {

void check_activation(const nlohmann::json& config, const std::vector<std::string_view>& known,
                      const std::string& where) {
  for (const char* key : {"hidden_activation", "hidden_act"}) {
    const auto stated = config.find(key);
    if (stated == config.end() || stated->is_null()) continue;
    const auto name = stated->get<std::string>();
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      throw Error(ErrorCode::kUnsupported, where + " uses the activation \"" + name +
                                               "\"; models of its kind use \"" +
                                               std::string(known[0]) + "\"");
    }
    return;
  }
}

}  // namespace

ModelSpec llama_like_from_hf(const std::string& architecture, const nlohmann::json& config,
                             const std::string& where,
                             const std::vector<std::string_view>& activations) {
  ModelSpec spec;
  spec.architecture = architecture;
  spec.vocab = hf_integer(config, "vocab_size", where);
  spec.hidden = hf_integer(config, "hidden_size", where);
  spec.layers = hf_integer(config, "num_hidden_layers", where);
  spec.heads = hf_integer(config, "num_attention_heads", where);
  spec.kv_heads = hf_integer(config, "num_key_value_heads", spec.heads, where);
  spec.head_dim =
      hf_integer(config, "head_dim", spec.heads > 0 ? spec.hidden / spec.heads : 0, where);
  spec.ffn = hf_integer(config, "intermediate_size", where);
  spec.context = hf_integer(config, "max_position_embeddings", 2048, where);
  spec.norm_eps = static_cast<float>(hf_number(config, "rms_norm_eps", 1e-6, where));
  spec.tied_embeddings = hf_boolean(config, "tie_word_embeddings", false);
  spec.rope = hf_rope(config, spec.head_dim, spec.context, where);
  check_activation(config, activations, where);
  return spec;
}

ModelSpec llama_like_from_gguf(const std::string& architecture, const GgufFile& file) {
  const auto key = [&](const char* name) { return architecture + "." + name; };
  ModelSpec spec;
  spec.architecture = architecture;
  const WeightView* embedding = file.find("token_embd.weight");
  spec.vocab =
      embedding ? static_cast<int32_t>(embedding->rows()) : gguf_integer(file, key("vocab_size"));
  spec.hidden = gguf_integer(file, key("embedding_length"));
  spec.layers = gguf_integer(file, key("block_count"));
  spec.heads = gguf_integer(file, key("attention.head_count"));
  spec.kv_heads = gguf_integer(file, key("attention.head_count_kv"), spec.heads);
  spec.head_dim = gguf_integer(file, key("attention.key_length"),
                               spec.heads > 0 ? spec.hidden / spec.heads : 0);
  spec.ffn = gguf_integer(file, key("feed_forward_length"),
                          gguf_integer(file, key("expert_feed_forward_length"), 0));
  spec.context = gguf_integer(file, key("context_length"));
  const auto rms_eps = file.number(key("attention.layer_norm_rms_epsilon"));
  const auto eps = rms_eps ? rms_eps : file.number(key("attention.layer_norm_epsilon"));
  spec.norm_eps = static_cast<float>(eps.value_or(1e-5));
  spec.tied_embeddings = file.find("output.weight") == nullptr;
  spec.rope = gguf_rope(file, architecture, spec.head_dim, spec.context);
  spec.moe.experts = gguf_integer(file, key("expert_count"), 0);
  if (spec.moe.experts > 0) {
    spec.moe.router.used = gguf_integer(file, key("expert_used_count"));
    spec.moe.ffn = gguf_integer(file, key("expert_feed_forward_length"), spec.ffn);
    spec.moe.shared_ffn = gguf_integer(file, key("expert_shared_feed_forward_length"), 0);
  }
  return spec;
}

void write_llama_like_gguf(const ModelSpec& spec, GgufWriter& writer) {
  const auto key = [&](const char* name) { return spec.architecture + "." + name; };
  writer.add("general.architecture", spec.architecture);
  writer.add(key("vocab_size"), int64_t{spec.vocab});
  writer.add(key("context_length"), int64_t{spec.context});
  writer.add(key("embedding_length"), int64_t{spec.hidden});
  writer.add(key("block_count"), int64_t{spec.layers});
  writer.add(key("feed_forward_length"), int64_t{spec.ffn});
  writer.add(key("attention.head_count"), int64_t{spec.heads});
  writer.add(key("attention.head_count_kv"), int64_t{spec.kv_heads});
  writer.add(key("attention.key_length"), int64_t{spec.head_dim});
  writer.add(key("attention.value_length"), int64_t{spec.head_dim});
  const bool rms = spec.norm == cpu::NormKind::kRms;
  writer.add(key(rms ? "attention.layer_norm_rms_epsilon" : "attention.layer_norm_epsilon"),
             double{spec.norm_eps});
  write_gguf_rope(spec.rope, spec.architecture, writer);
  if (spec.moe.experts == 0) return;
  if (!spec.moe.dense_layers.empty()) {
    throw Error(ErrorCode::kUnsupported, "GGUF has no key for the layers without experts of " +
                                             spec.architecture + " models");
  }
  writer.add(key("expert_count"), int64_t{spec.moe.experts});
  writer.add(key("expert_used_count"), int64_t{spec.moe.router.used});
  writer.add(key("expert_feed_forward_length"), int64_t{spec.moe.ffn});
  if (spec.moe.shared_ffn > 0) {
    writer.add(key("expert_shared_feed_forward_length"), int64_t{spec.moe.shared_ffn});
  }
}

}  // namespace mlxr
