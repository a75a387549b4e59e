// Gemma 1, 2 and 3 (text): GeGLU, embeddings times sqrt(hidden), norms whose weight a Hugging Face
// file states less one. Gemma 2 adds norms after attention and MLP, soft caps and a sliding window
// in every second layer; Gemma 3 trades the caps for norms of Q and K, has windows in five of six
// layers, and rotates those by frequencies of their own.
#include <cmath>

#include "core/base/error.h"
#include "core/formats/gguf_reader.h"
#include "core/formats/gguf_writer.h"
#include "core/graph/families/llama_like.h"

namespace mlxr {
namespace {

using nlohmann::json;

// What all generations share, whatever the file.
ModelSpec gemma(ModelSpec spec) {
  spec.activation = cpu::Activation::kGeluTanh;
  spec.embedding_scale = std::sqrt(static_cast<float>(spec.hidden));
  return spec;
}

// "gelu" is what the first files call it; the models were trained with the approximation.
ModelSpec gemma_from_hf(const char* architecture, const json& config, const std::string& where) {
  ModelSpec spec =
      gemma(llama_like_from_hf(architecture, config, where, {"gelu_pytorch_tanh", "gelu"}));
  spec.tied_embeddings = hf_boolean(config, "tie_word_embeddings", true);
  spec.norm_offset = 1;
  return spec;
}

// Every `period`-th layer sees all, the others `window` positions.
void add_windows(ModelSpec& spec, int32_t window, int32_t period) {
  for (int32_t i = 0; i < spec.layers; ++i) {
    spec.windows.push_back((i + 1) % period == 0 ? 0 : window);
  }
}

void add_hf_windows(ModelSpec& spec, const json& config, int32_t period, const std::string& where) {
  const int32_t window = hf_integer(config, "sliding_window", 4096, where);
  const auto types = config.find("layer_types");
  if (types == config.end() || !types->is_array()) {
    return add_windows(spec, window, hf_integer(config, "sliding_window_pattern", period, where));
  }
  for (const json& type : *types) {
    spec.windows.push_back(type == "sliding_attention" ? window : 0);
  }
}

// The scale of attention scores of Gemma 2 and 3, which GGUF does not state: the largest of each
// divides by the square root of hidden / heads instead of the head size.
float scale_of(const ModelSpec& spec, int32_t layers_of_largest) {
  const int32_t width = spec.layers == layers_of_largest ? spec.hidden / spec.heads : spec.head_dim;
  return 1.0f / std::sqrt(static_cast<float>(width));
}

float hf_scale(const json& config, const std::string& where) {
  return static_cast<float>(1.0 / std::sqrt(hf_number(config, "query_pre_attn_scalar", where)));
}

ModelSpec gemma1_from_hf(const json& config, const std::string& where) {
  return gemma_from_hf("gemma", config, where);
}

ModelSpec gemma1_from_gguf(const GgufFile& file) {
  return gemma(llama_like_from_gguf("gemma", file));
}

// ---- Gemma 2 ----

constexpr int32_t kGemma2Period = 2, kGemma2Largest = 46;

ModelSpec gemma2_from_hf(const json& config, const std::string& where) {
  ModelSpec spec = gemma_from_hf("gemma2", config, where);
  spec.post_norms = true;
  spec.attention_scale = hf_scale(config, where);
  spec.attention_soft_cap =
      static_cast<float>(hf_number(config, "attn_logit_softcapping", 0, where));
  spec.logit_soft_cap = static_cast<float>(hf_number(config, "final_logit_softcapping", 0, where));
  add_hf_windows(spec, config, kGemma2Period, where);
  return spec;
}

ModelSpec gemma2_from_gguf(const GgufFile& file) {
  ModelSpec spec = gemma(llama_like_from_gguf("gemma2", file));
  spec.post_norms = true;
  spec.attention_scale = scale_of(spec, kGemma2Largest);
  const auto number = [&](const char* key, double fallback) {
    return static_cast<float>(file.number(key).value_or(fallback));
  };
  spec.attention_soft_cap = number("gemma2.attn_logit_softcapping", 50.0);
  spec.logit_soft_cap = number("gemma2.final_logit_softcapping", 30.0);
  add_windows(spec, gguf_integer(file, "gemma2.attention.sliding_window", 4096), kGemma2Period);
  return spec;
}

// Throws unless a reader of the file would find the scale and the windows that the spec has.
void check_writable(const ModelSpec& spec, int32_t period, int32_t layers_of_largest) {
  ModelSpec read = spec;
  read.windows.clear();
  add_windows(read, spec.window(0), period);
  const float scale = scale_of(spec, layers_of_largest);
  if (read.windows != spec.windows || std::abs(spec.attention_scale - scale) > 1e-6f * scale) {
    throw Error(ErrorCode::kUnsupported,
                "GGUF has no key for attention windows or scales that are not those of " +
                    spec.architecture + " models");
  }
}

void write_gemma2(const ModelSpec& spec, GgufWriter& writer) {
  check_writable(spec, kGemma2Period, kGemma2Largest);
  write_llama_like_gguf(spec, writer);
  writer.add("gemma2.attn_logit_softcapping", double{spec.attention_soft_cap});
  writer.add("gemma2.final_logit_softcapping", double{spec.logit_soft_cap});
  writer.add("gemma2.attention.sliding_window", int64_t{spec.window(0)});
}

// ---- Gemma 3 ----

constexpr int32_t kGemma3Period = 6, kGemma3Largest = 62;
constexpr double kGemma3WindowTheta = 10000.0;

// The frequencies of one kind of layer, which newer files state by its name.
RopeSpec gemma3_rope(const json& config, const char* kind, const char* old_theta, double theta,
                     const ModelSpec& spec, const std::string& where) {
  json parameters = {{"rope_theta", hf_number(config, old_theta, theta, where)}};
  if (const auto all = config.find("rope_parameters"); all != config.end() && all->contains(kind)) {
    parameters["rope_parameters"] = all->at(kind);
  } else if (const auto old = config.find("rope_scaling");
             old != config.end() && std::string_view(kind) == "full_attention") {
    parameters["rope_scaling"] = *old;
  }
  return hf_rope(parameters, spec.head_dim, spec.context, where);
}

ModelSpec gemma3_from_hf(const json& config, const std::string& where) {
  ModelSpec spec = gemma_from_hf("gemma3", config, where);
  spec.qk_norm = spec.post_norms = true;
  spec.attention_scale = hf_scale(config, where);
  spec.attention_soft_cap =
      static_cast<float>(hf_number(config, "attn_logit_softcapping", 0, where));
  spec.logit_soft_cap = static_cast<float>(hf_number(config, "final_logit_softcapping", 0, where));
  add_hf_windows(spec, config, kGemma3Period, where);
  spec.rope = gemma3_rope(config, "full_attention", "rope_theta", 1e6, spec, where);
  spec.window_rope = gemma3_rope(config, "sliding_attention", "rope_local_base_freq",
                                 kGemma3WindowTheta, spec, where);
  return spec;
}

ModelSpec gemma3_from_gguf(const GgufFile& file) {
  ModelSpec spec = gemma(llama_like_from_gguf("gemma3", file));
  spec.qk_norm = spec.post_norms = true;
  spec.attention_scale = scale_of(spec, kGemma3Largest);
  spec.logit_soft_cap =
      static_cast<float>(file.number("gemma3.final_logit_softcapping").value_or(0.0));
  add_windows(spec, gguf_integer(file, "gemma3.attention.sliding_window", 1024), kGemma3Period);
  spec.window_rope =
      RopeSpec{.theta = file.number("gemma3.rope.freq_base_swa").value_or(kGemma3WindowTheta),
               .dims = spec.rope.dims};
  return spec;
}

void write_gemma3(const ModelSpec& spec, GgufWriter& writer) {
  check_writable(spec, kGemma3Period, kGemma3Largest);
  write_llama_like_gguf(spec, writer);
  if (spec.logit_soft_cap > 0) {
    writer.add("gemma3.final_logit_softcapping", double{spec.logit_soft_cap});
  }
  writer.add("gemma3.attention.sliding_window", int64_t{spec.window(0)});
  writer.add("gemma3.rope.freq_base_swa", spec.window_rope->theta);
}

// ---- Names ----

TensorNames gemma2_hf_names() {
  TensorNames names = common_hf_names();
  names.mlp_norm = "model.layers.{}.pre_feedforward_layernorm";
  return names;
}

}  // namespace

const Family& gemma_family() {
  static const Family kFamily = {.hf_model_types = {"gemma"},
                                 .gguf_architectures = {"gemma"},
                                 .from_hf = gemma1_from_hf,
                                 .from_gguf = gemma1_from_gguf,
                                 .hf_names = common_hf_names(),
                                 .gguf_names = common_gguf_names(),
                                 .write_gguf = write_llama_like_gguf};
  return kFamily;
}

const Family& gemma2_family() {
  static const Family kFamily = {.hf_model_types = {"gemma2"},
                                 .gguf_architectures = {"gemma2"},
                                 .from_hf = gemma2_from_hf,
                                 .from_gguf = gemma2_from_gguf,
                                 .hf_names = gemma2_hf_names(),
                                 .gguf_names = common_gguf_names(),
                                 .write_gguf = write_gemma2};
  return kFamily;
}

const Family& gemma3_family() {
  static const Family kFamily = {.hf_model_types = {"gemma3_text"},
                                 .gguf_architectures = {"gemma3"},
                                 .from_hf = gemma3_from_hf,
                                 .from_gguf = gemma3_from_gguf,
                                 .hf_names = gemma2_hf_names(),
                                 .gguf_names = common_gguf_names(),
                                 .write_gguf = write_gemma3};
  return kFamily;
}

}  // namespace mlxr
