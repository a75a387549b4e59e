// Llama 1, 2 and 3 and models of the same shape: pre-norm RMSNorm, grouped-query attention with
// RoPE, SwiGLU. Biases are used where a file has them.
#include "core/base/error.h"
#include "core/formats/gguf_reader.h"
#include "core/formats/gguf_writer.h"
#include "core/graph/families/families.h"

namespace mlxr {
namespace {

ModelSpec from_hf(const nlohmann::json& config, const std::string& where) {
  ModelSpec spec;
  spec.architecture = "llama";
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
    throw Error(ErrorCode::kUnsupported,
                where + " uses the activation " + activation->dump() + "; Llama uses \"silu\"");
  }
  return spec;
}

ModelSpec from_gguf(const GgufFile& file) {
  ModelSpec spec;
  spec.architecture = "llama";
  const WeightView* embedding = file.find("token_embd.weight");
  spec.vocab =
      embedding ? static_cast<int32_t>(embedding->rows()) : gguf_integer(file, "llama.vocab_size");
  spec.hidden = gguf_integer(file, "llama.embedding_length");
  spec.layers = gguf_integer(file, "llama.block_count");
  spec.heads = gguf_integer(file, "llama.attention.head_count");
  spec.kv_heads = gguf_integer(file, "llama.attention.head_count_kv", spec.heads);
  spec.head_dim = gguf_integer(file, "llama.attention.key_length",
                               spec.heads > 0 ? spec.hidden / spec.heads : 0);
  spec.ffn = gguf_integer(file, "llama.feed_forward_length");
  spec.context = gguf_integer(file, "llama.context_length");
  spec.norm_eps =
      static_cast<float>(file.number("llama.attention.layer_norm_rms_epsilon").value_or(1e-5));
  spec.tied_embeddings = file.find("output.weight") == nullptr;
  spec.rope = gguf_rope(file, "llama", spec.head_dim, spec.context);
  spec.rope.interleaved = true;  // GGUF permutes Llama's Q and K rows so
  if (gguf_integer(file, "llama.expert_count", 0) > 0) {
    throw Error(ErrorCode::kUnsupported,
                file.path().string() + " is a mixture of experts, which this build does not run");
  }
  return spec;
}

void write_gguf(const ModelSpec& spec, GgufWriter& writer) {
  writer.add("general.architecture", std::string("llama"));
  writer.add("llama.vocab_size", int64_t{spec.vocab});
  writer.add("llama.context_length", int64_t{spec.context});
  writer.add("llama.embedding_length", int64_t{spec.hidden});
  writer.add("llama.block_count", int64_t{spec.layers});
  writer.add("llama.feed_forward_length", int64_t{spec.ffn});
  writer.add("llama.attention.head_count", int64_t{spec.heads});
  writer.add("llama.attention.head_count_kv", int64_t{spec.kv_heads});
  writer.add("llama.attention.key_length", int64_t{spec.head_dim});
  writer.add("llama.attention.value_length", int64_t{spec.head_dim});
  writer.add("llama.attention.layer_norm_rms_epsilon", double{spec.norm_eps});
  write_gguf_rope(spec.rope, "llama", writer);
}

}  // namespace

const Family& llama_family() {
  static const Family kFamily = {.hf_model_types = {"llama"},
                                 .gguf_architectures = {"llama"},
                                 .from_hf = from_hf,
                                 .from_gguf = from_gguf,
                                 .hf_names = common_hf_names(),
                                 .gguf_names = common_gguf_names(),
                                 .write_gguf = write_gguf,
                                 .gguf_interleaves_qk = true};
  return kFamily;
}

}  // namespace mlxr
