#include "core/graph/families/llama_like.h"

#include "core/base/error.h"
#include "core/formats/gguf_reader.h"
#include "core/formats/gguf_writer.h"

namespace mlxr {

ModelSpec llama_like_from_hf(const std::string& architecture, const nlohmann::json& config,
                             const std::string& where) {
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
  const auto activation = config.find("hidden_act");
  if (activation != config.end() && *activation != "silu") {
    throw Error(ErrorCode::kUnsupported, where + " uses the activation " + activation->dump() +
                                             "; " + architecture + " models use \"silu\"");
  }
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
  spec.ffn = gguf_integer(file, key("feed_forward_length"));
  spec.context = gguf_integer(file, key("context_length"));
  spec.norm_eps =
      static_cast<float>(file.number(key("attention.layer_norm_rms_epsilon")).value_or(1e-5));
  spec.tied_embeddings = file.find("output.weight") == nullptr;
  spec.rope = gguf_rope(file, architecture, spec.head_dim, spec.context);
  if (gguf_integer(file, key("expert_count"), 0) > 0) {
    throw Error(ErrorCode::kUnsupported,
                file.path().string() + " is a mixture of experts, which this build does not run");
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
  writer.add(key("attention.layer_norm_rms_epsilon"), double{spec.norm_eps});
  write_gguf_rope(spec.rope, spec.architecture, writer);
}

}  // namespace mlxr
