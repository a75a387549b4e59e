// The one normal form of an architecture. Readers turn a Hugging Face config.json or GGUF metadata
// into it (core/graph/families); one decoder builder turns it into a graph (core/graph/decoder.h).
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/kernels/cpu/activation.h"
#include "core/kernels/cpu/moe_routing.h"
#include "core/kernels/cpu/norm.h"

namespace mlxr {

enum class RopeScaling { kNone, kLinear, kDynamic, kYarn, kLlama3 };

struct RopeSpec {
  double theta = 10000.0;
  int32_t dims = 0;          // rotated dimensions of a head
  bool interleaved = false;  // pairs (2i, 2i + 1) instead of (i, i + dims / 2)
  RopeScaling scaling = RopeScaling::kNone;
  double factor = 1.0;
  int32_t original_context = 0;  // what the unscaled frequencies were trained for
  double low_freq_factor = 1.0, high_freq_factor = 4.0;  // llama3
  double beta_fast = 32.0, beta_slow = 1.0;              // YaRN
  double attention_factor = 0.0;                         // YaRN; 0: 0.1 ln(factor) + 1
  std::vector<float>
      frequency_factors;  // [dims / 2] divisors that a file states outright, or empty
};

// A mixture of experts in place of a layer's feed-forward block.
struct MoeSpec {
  int32_t experts = 0;  // 0: no layer has one
  cpu::RouterParams router;
  int32_t ffn = 0;                    // of an expert
  int32_t shared_ffn = 0;             // of one that takes every token; 0: there is none
  bool shared_gate = false;           // its result is times a sigmoid of its own
  std::vector<int32_t> dense_layers;  // that have one feed-forward block all the same
};

struct ModelSpec {
  std::string architecture;
  int32_t vocab = 0;
  int32_t hidden = 0;
  int32_t layers = 0;
  int32_t heads = 0;
  int32_t kv_heads = 0;
  int32_t head_dim = 0;
  int32_t ffn = 0;
  int32_t context = 0;  // positions that the model was trained for
  bool tied_embeddings = false;
  // Every token sees all others, states are normed behind each block, positions have embeddings: it
  // reads a sequence in one step and has no logits (core/graph/encoder.h).
  bool encoder = false;
  int32_t token_types = 0;  // of an encoder, segments that it tells apart; 0: none
  int32_t classes = 0;      // of an encoder with a classifier head, its outputs; 0: it has none
  RopeSpec rope;

  cpu::NormKind norm = cpu::NormKind::kRms;
  float norm_eps = 1e-5f;
  float norm_offset = 0;    // added to every norm's weight, as its file has it
  bool qk_norm = false;     // every head of q and of k is normed before it is rotated
  bool post_norms = false;  // what attention and MLP give is normed before it is added

  cpu::Activation activation = cpu::Activation::kSilu;
  bool gated_mlp = true;  // down(f(gate) * up) instead of down(f(up))
  MoeSpec moe;
  float embedding_scale = 1;
  float attention_scale = 0;     // of the scores; 0: 1 / sqrt(head_dim)
  float attention_soft_cap = 0;  // of the scores; 0: none
  float logit_soft_cap = 0;

  // [layers], positions that a query sees, itself included; 0: all. Empty: all of every layer.
  std::vector<int32_t> windows;
  std::optional<RopeSpec> window_rope;  // of the layers with a window, where it is another

  // Layers whose keys and values outlive a step: an encoder's take turns in one layer's memory.
  int32_t kv_layers() const { return encoder ? 1 : layers; }
  int32_t window(int32_t layer) const {
    return windows.empty() ? 0 : windows[static_cast<size_t>(layer)];
  }
  int32_t window_layers() const {
    return static_cast<int32_t>(windows.size()) -
           static_cast<int32_t>(std::count(windows.begin(), windows.end(), 0));
  }
  int32_t widest_window() const {
    return windows.empty() ? 0 : *std::max_element(windows.begin(), windows.end());
  }
  bool has_experts(int32_t layer) const {
    const auto& dense = moe.dense_layers;
    return moe.experts > 0 && std::find(dense.begin(), dense.end(), layer) == dense.end();
  }
};

// Throws Error{kCorruptFile} naming `where` and the number that cannot be.
void check_spec(const ModelSpec& spec, const std::string& where);

// Frequencies in radians a position, [dims / 2], and the factor that cosines and sines are scaled
// by.
struct RopeFrequencies {
  std::vector<double> inverse;
  double magnitude = 1.0;
};
// `window` is the context length the model will run with: dynamic NTK scaling depends on it. It is
// fixed at load, so that a key stored early and a query made late are rotated alike.
// Sources: linear, Chen et al. 2023; NTK, bloc97 2023; YaRN, Peng et al. 2023; llama3, Meta 2024.
RopeFrequencies rope_frequencies(const RopeSpec& rope, int32_t window);

}  // namespace mlxr
