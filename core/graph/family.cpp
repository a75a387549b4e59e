#include "core/graph/family.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "core/base/error.h"
#include "core/formats/gguf_reader.h"
#include "core/formats/gguf_writer.h"
#include "core/graph/families/families.h"

namespace mlxr {
namespace {

using nlohmann::json;

const std::vector<const Family*>& families() {
  static const std::vector<const Family*> kFamilies = {
      &llama_family(),  &mistral_family(),   &mixtral_family(),   &qwen2_family(),
      &qwen3_family(),  &qwen2_moe_family(), &qwen3_moe_family(), &gemma_family(),
      &gemma2_family(), &gemma3_family(),    &stablelm_family(),  &starcoder2_family(),
      &bert_family()};
  return kFamilies;
}

[[noreturn]] void unsupported(const std::string& where, const std::string& name,
                              std::vector<std::string_view> Family::*names) {
  std::string known;
  for (const Family* family : families()) {
    for (std::string_view each : family->*names)
      known += (known.empty() ? "" : ", ") + std::string(each);
  }
  throw Error(ErrorCode::kUnsupported, where + " has architecture \"" + name +
                                           "\", which this build does not run (it runs: " + known +
                                           ")");
}

const Family* find(const std::string_view name, std::vector<std::string_view> Family::*names) {
  for (const Family* family : families()) {
    const auto& known = family->*names;
    if (std::find(known.begin(), known.end(), name) != known.end()) return family;
  }
  return nullptr;
}

}  // namespace

std::string in_layer(const std::string& name, int32_t layer) {
  const size_t at = name.find("{}");
  if (at == std::string::npos) return name;
  return name.substr(0, at) + std::to_string(layer) + name.substr(at + 2);
}

int64_t hf_row_of_gguf(int64_t row, int64_t head_dim) {
  const int64_t in_head = row % head_dim;
  return row - in_head + (in_head % 2) * (head_dim / 2) + in_head / 2;
}

int64_t gguf_row_of_hf(int64_t row, int64_t head_dim) {
  const int64_t in_head = row % head_dim, half = head_dim / 2;
  return row - in_head + 2 * (in_head % half) + in_head / half;
}

const Family& family_of_hf(const std::string& model_type, const std::string& where) {
  const Family* family = find(model_type, &Family::hf_model_types);
  if (family == nullptr) unsupported(where, model_type, &Family::hf_model_types);
  return *family;
}

const Family& family_of_gguf(const std::string& architecture, const std::string& where) {
  const Family* family = find(architecture, &Family::gguf_architectures);
  if (family == nullptr) unsupported(where, architecture, &Family::gguf_architectures);
  return *family;
}

double hf_number(const json& config, const char* key, const std::string& where) {
  const auto found = config.find(key);
  if (found == config.end() || !found->is_number()) {
    throw Error(ErrorCode::kCorruptFile, where + " does not state the number \"" + key + "\"");
  }
  return found->get<double>();
}

double hf_number(const json& config, const char* key, double fallback, const std::string& where) {
  const auto found = config.find(key);
  if (found == config.end() || found->is_null()) return fallback;
  return hf_number(config, key, where);
}

namespace {
int32_t to_integer(double value, const std::string& key, const std::string& where) {
  if (!(value >= std::numeric_limits<int32_t>::min() &&
        value <= std::numeric_limits<int32_t>::max())) {
    throw Error(ErrorCode::kCorruptFile, where + " states an impossible \"" + key + "\"");
  }
  return static_cast<int32_t>(value);
}
}  // namespace

int32_t hf_integer(const json& config, const char* key, const std::string& where) {
  return to_integer(hf_number(config, key, where), key, where);
}

int32_t hf_integer(const json& config, const char* key, int32_t fallback,
                   const std::string& where) {
  return to_integer(hf_number(config, key, static_cast<double>(fallback), where), key, where);
}

bool hf_boolean(const json& config, const char* key, bool fallback) {
  const auto found = config.find(key);
  return found != config.end() && found->is_boolean() ? found->get<bool>() : fallback;
}

RopeSpec hf_rope(const json& config, int32_t head_dim, int32_t context, const std::string& where) {
  RopeSpec rope;
  json parameters = json::object();
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const auto found = config.find(key);
    if (found != config.end() && found->is_object()) parameters = *found;
  }
  rope.theta =
      hf_number(parameters, "rope_theta", hf_number(config, "rope_theta", 10000.0, where), where);
  const double partial = hf_number(parameters, "partial_rotary_factor",
                                   hf_number(config, "partial_rotary_factor", 1.0, where), where);
  rope.dims = to_integer(head_dim * partial, "partial_rotary_factor", where);
  rope.original_context =
      hf_integer(parameters, "original_max_position_embeddings", context, where);
  std::string type = "default";
  for (const char* key : {"type", "rope_type"}) {
    const auto found = parameters.find(key);
    if (found != parameters.end() && found->is_string()) type = found->get<std::string>();
  }
  if (type == "default") return rope;
  rope.factor = hf_number(parameters, "factor", 1.0, where);
  if (type == "linear") {
    rope.scaling = RopeScaling::kLinear;
  } else if (type == "dynamic") {
    rope.scaling = RopeScaling::kDynamic;
  } else if (type == "yarn") {
    rope.scaling = RopeScaling::kYarn;
    rope.beta_fast = hf_number(parameters, "beta_fast", 32.0, where);
    rope.beta_slow = hf_number(parameters, "beta_slow", 1.0, where);
    rope.attention_factor = hf_number(parameters, "attention_factor", 0.0, where);
  } else if (type == "llama3") {
    rope.scaling = RopeScaling::kLlama3;
    rope.low_freq_factor = hf_number(parameters, "low_freq_factor", 1.0, where);
    rope.high_freq_factor = hf_number(parameters, "high_freq_factor", 4.0, where);
  } else {
    throw Error(ErrorCode::kUnsupported,
                where + " scales RoPE by \"" + type +
                    "\"; this build knows default, linear, dynamic, yarn and llama3");
  }
  return rope;
}

int32_t gguf_integer(const GgufFile& file, const std::string& key) {
  const auto value = file.integer(key);
  if (!value) {
    throw Error(ErrorCode::kCorruptFile,
                file.path().string() + " lacks the metadata \"" + key + "\"");
  }
  return to_integer(static_cast<double>(*value), key, file.path().string());
}

int32_t gguf_integer(const GgufFile& file, const std::string& key, int32_t fallback) {
  return file.metadata().contains(key) ? gguf_integer(file, key) : fallback;
}

RopeSpec gguf_rope(const GgufFile& file, const std::string& architecture, int32_t head_dim,
                   int32_t context) {
  const std::string prefix = architecture + ".rope.";
  RopeSpec rope;
  rope.theta = file.number(prefix + "freq_base").value_or(10000.0);
  rope.dims = gguf_integer(file, prefix + "dimension_count", head_dim);
  rope.original_context = gguf_integer(file, prefix + "scaling.original_context_length", context);
  rope.factor = file.number(prefix + "scaling.factor").value_or(1.0);
  const std::string type = file.text(prefix + "scaling.type").value_or("none");
  if (type == "linear") {
    rope.scaling = RopeScaling::kLinear;
  } else if (type == "yarn") {
    rope.scaling = RopeScaling::kYarn;
    rope.beta_fast = file.number(prefix + "scaling.yarn_beta_fast").value_or(32.0);
    rope.beta_slow = file.number(prefix + "scaling.yarn_beta_slow").value_or(1.0);
    rope.attention_factor = file.number(prefix + "scaling.attn_factor").value_or(0.0);
  } else if (type != "none") {
    throw Error(ErrorCode::kUnsupported, file.path().string() + " scales RoPE by \"" + type +
                                             "\"; this build knows none, linear and yarn in GGUF");
  }
  // Llama 3's scaling comes as one divisor a frequency.
  if (const WeightView* factors = file.find("rope_freqs.weight")) {
    rope.frequency_factors.resize(static_cast<size_t>(factors->elements()));
    info(factors->format)
        .dequantize(factors->bytes.data(), rope.frequency_factors.data(), factors->elements());
  }
  return rope;
}

void write_gguf_rope(const RopeSpec& rope, const std::string& architecture, GgufWriter& writer) {
  const std::string prefix = architecture + ".rope.";
  writer.add(prefix + "freq_base", rope.theta);
  writer.add(prefix + "dimension_count", int64_t{rope.dims});
  switch (rope.scaling) {
    case RopeScaling::kNone:
      return;
    case RopeScaling::kLinear:
      writer.add(prefix + "scaling.type", std::string("linear"));
      writer.add(prefix + "scaling.factor", rope.factor);
      return;
    case RopeScaling::kYarn:
      writer.add(prefix + "scaling.type", std::string("yarn"));
      writer.add(prefix + "scaling.factor", rope.factor);
      writer.add(prefix + "scaling.original_context_length", int64_t{rope.original_context});
      writer.add(prefix + "scaling.yarn_beta_fast", rope.beta_fast);
      writer.add(prefix + "scaling.yarn_beta_slow", rope.beta_slow);
      if (rope.attention_factor > 0)
        writer.add(prefix + "scaling.attn_factor", rope.attention_factor);
      return;
    case RopeScaling::kLlama3: {
      RopeSpec plain = rope;
      plain.scaling = RopeScaling::kNone;
      const auto base = rope_frequencies(plain, 0).inverse,
                 scaled = rope_frequencies(rope, 0).inverse;
      std::vector<float> factors;
      for (size_t i = 0; i < base.size(); ++i) {
        factors.push_back(static_cast<float>(base[i] / scaled[i]));
      }
      writer.add_tensor("rope_freqs.weight", QuantFormat::kF32,
                        {static_cast<int64_t>(factors.size())},
                        [factors](std::span<std::byte> out) {
                          std::memcpy(out.data(), factors.data(), out.size());
                        });
      return;
    }
    case RopeScaling::kDynamic:
      throw Error(ErrorCode::kUnsupported,
                  "dynamic RoPE scaling cannot be written to GGUF, which has no key for it");
  }
}

TensorNames common_hf_names() {
  return {.embedding = "model.embed_tokens",
          .final_norm = "model.norm",
          .output = "lm_head",
          .attn_norm = "model.layers.{}.input_layernorm",
          .q = "model.layers.{}.self_attn.q_proj",
          .k = "model.layers.{}.self_attn.k_proj",
          .v = "model.layers.{}.self_attn.v_proj",
          .o = "model.layers.{}.self_attn.o_proj",
          .mlp_norm = "model.layers.{}.post_attention_layernorm",
          .gate = "model.layers.{}.mlp.gate_proj",
          .up = "model.layers.{}.mlp.up_proj",
          .down = "model.layers.{}.mlp.down_proj",
          .q_norm = "model.layers.{}.self_attn.q_norm",
          .k_norm = "model.layers.{}.self_attn.k_norm",
          .post_attn_norm = "model.layers.{}.post_attention_layernorm",
          .post_mlp_norm = "model.layers.{}.post_feedforward_layernorm",
          .router = "model.layers.{}.mlp.gate",
          .expert_gate = "model.layers.{}.mlp.experts.{}.gate_proj",
          .expert_up = "model.layers.{}.mlp.experts.{}.up_proj",
          .expert_down = "model.layers.{}.mlp.experts.{}.down_proj",
          .shared_router = "model.layers.{}.mlp.shared_expert_gate",
          .shared_gate = "model.layers.{}.mlp.shared_expert.gate_proj",
          .shared_up = "model.layers.{}.mlp.shared_expert.up_proj",
          .shared_down = "model.layers.{}.mlp.shared_expert.down_proj"};
}

TensorNames common_gguf_names() {
  return {.embedding = "token_embd",
          .final_norm = "output_norm",
          .output = "output",
          .attn_norm = "blk.{}.attn_norm",
          .q = "blk.{}.attn_q",
          .k = "blk.{}.attn_k",
          .v = "blk.{}.attn_v",
          .o = "blk.{}.attn_output",
          .mlp_norm = "blk.{}.ffn_norm",
          .gate = "blk.{}.ffn_gate",
          .up = "blk.{}.ffn_up",
          .down = "blk.{}.ffn_down",
          .q_norm = "blk.{}.attn_q_norm",
          .k_norm = "blk.{}.attn_k_norm",
          .post_attn_norm = "blk.{}.post_attention_norm",
          .post_mlp_norm = "blk.{}.post_ffw_norm",
          .router = "blk.{}.ffn_gate_inp",
          .expert_gate = "blk.{}.ffn_gate_exps",
          .expert_up = "blk.{}.ffn_up_exps",
          .expert_down = "blk.{}.ffn_down_exps",
          .shared_router = "blk.{}.ffn_gate_inp_shexp",
          .shared_gate = "blk.{}.ffn_gate_shexp",
          .shared_up = "blk.{}.ffn_up_shexp",
          .shared_down = "blk.{}.ffn_down_shexp"};
}

}  // namespace mlxr
