// BERT (Devlin et al. 2019) and the sentence encoders and cross-encoders made from it.
#include "core/base/error.h"
#include "core/formats/gguf_reader.h"
#include "core/graph/families/families.h"

namespace mlxr {
namespace {

ModelSpec bert(ModelSpec spec) {
  spec.architecture = "bert";
  spec.encoder = true;
  spec.norm = cpu::NormKind::kLayer;
  spec.gated_mlp = false;
  spec.kv_heads = spec.heads;
  spec.head_dim = spec.heads > 0 ? spec.hidden / spec.heads : 0;
  return spec;
}

cpu::Activation activation(const nlohmann::json& config, const std::string& where) {
  const std::string name = config.value("hidden_act", "gelu");
  if (name == "gelu") return cpu::Activation::kGelu;
  if (name == "gelu_new" || name == "gelu_pytorch_tanh") return cpu::Activation::kGeluTanh;
  if (name == "relu") return cpu::Activation::kRelu;
  throw Error(ErrorCode::kUnsupported, where + " uses the activation \"" + name +
                                           "\"; this build's BERT knows gelu, gelu_new and relu");
}

// Labels of a classifier; 0 where the file has no such head.
int32_t classes(const nlohmann::json& config, const std::string& where) {
  bool has_head = false;
  for (const auto& name : config.value("architectures", nlohmann::json::array())) {
    has_head = has_head || name == "BertForSequenceClassification";
  }
  if (!has_head) return 0;
  const auto labels = config.find("id2label");
  if (labels != config.end() && labels->is_object()) return static_cast<int32_t>(labels->size());
  return hf_integer(config, "num_labels", 2, where);
}

ModelSpec from_hf(const nlohmann::json& config, const std::string& where) {
  const std::string positions = config.value("position_embedding_type", "absolute");
  if (positions != "absolute") {
    throw Error(ErrorCode::kUnsupported, where + " has positions of the kind \"" + positions +
                                             "\"; this build's BERT knows absolute ones");
  }
  ModelSpec spec;
  spec.vocab = hf_integer(config, "vocab_size", where);
  spec.hidden = hf_integer(config, "hidden_size", where);
  spec.layers = hf_integer(config, "num_hidden_layers", where);
  spec.heads = hf_integer(config, "num_attention_heads", where);
  spec.ffn = hf_integer(config, "intermediate_size", where);
  spec.context = hf_integer(config, "max_position_embeddings", where);
  spec.token_types = hf_integer(config, "type_vocab_size", 2, where);
  spec.norm_eps = static_cast<float>(hf_number(config, "layer_norm_eps", 1e-12, where));
  spec.activation = activation(config, where);
  spec.classes = classes(config, where);
  return bert(spec);
}

int32_t rows_of(const GgufFile& file, const char* tensor) {
  const WeightView* view = file.find(tensor);
  return view != nullptr ? static_cast<int32_t>(view->rows()) : 0;
}

ModelSpec from_gguf(const GgufFile& file) {
  ModelSpec spec;
  spec.vocab = rows_of(file, "token_embd.weight");
  spec.hidden = gguf_integer(file, "bert.embedding_length");
  spec.layers = gguf_integer(file, "bert.block_count");
  spec.heads = gguf_integer(file, "bert.attention.head_count");
  spec.ffn = gguf_integer(file, "bert.feed_forward_length");
  spec.context = rows_of(file, "position_embd.weight");
  spec.token_types = rows_of(file, "token_types.weight");
  spec.norm_eps =
      static_cast<float>(file.number("bert.attention.layer_norm_epsilon").value_or(1e-12));
  spec.activation = cpu::Activation::kGelu;
  // A head of one matrix is the output itself.
  spec.classes = rows_of(file, "cls.output.weight");
  if (spec.classes == 0) spec.classes = rows_of(file, "cls.weight");
  return bert(spec);
}

void write_gguf(const ModelSpec& /*spec*/, GgufWriter& /*writer*/) {
  throw Error(ErrorCode::kUnsupported,
              "encoders (BERT) are not written to GGUF by this build; serve the folder as it is");
}

TensorNames hf_names() {
  TensorNames names;
  names.embedding = "bert.embeddings.word_embeddings";
  names.positions = "bert.embeddings.position_embeddings";
  names.token_types = "bert.embeddings.token_type_embeddings";
  names.embedding_norm = "bert.embeddings.LayerNorm";
  names.q = "bert.encoder.layer.{}.attention.self.query";
  names.k = "bert.encoder.layer.{}.attention.self.key";
  names.v = "bert.encoder.layer.{}.attention.self.value";
  names.o = "bert.encoder.layer.{}.attention.output.dense";
  names.attn_norm = "bert.encoder.layer.{}.attention.output.LayerNorm";
  names.up = "bert.encoder.layer.{}.intermediate.dense";
  names.down = "bert.encoder.layer.{}.output.dense";
  names.mlp_norm = "bert.encoder.layer.{}.output.LayerNorm";
  names.classifier = "classifier";
  names.classifier_dense = "bert.pooler.dense";
  return names;
}

TensorNames gguf_names() {
  TensorNames names;
  names.embedding = "token_embd";
  names.positions = "position_embd";
  names.token_types = "token_types";
  names.embedding_norm = "token_embd_norm";
  names.q = "blk.{}.attn_q";
  names.k = "blk.{}.attn_k";
  names.v = "blk.{}.attn_v";
  names.o = "blk.{}.attn_output";
  names.attn_norm = "blk.{}.attn_output_norm";
  names.up = "blk.{}.ffn_up";
  names.down = "blk.{}.ffn_down";
  names.mlp_norm = "blk.{}.layer_output_norm";
  names.classifier = "cls.output";
  names.classifier_dense = "cls";
  return names;
}

}  // namespace

const Family& bert_family() {
  static const Family kFamily = {.hf_model_types = {"bert"},
                                 .gguf_architectures = {"bert"},
                                 .from_hf = from_hf,
                                 .from_gguf = from_gguf,
                                 .hf_names = hf_names(),
                                 .gguf_names = gguf_names(),
                                 .write_gguf = write_gguf,
                                 .hf_prefix = "bert."};
  return kFamily;
}

}  // namespace mlxr
