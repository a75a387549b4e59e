// The one normal form of an architecture. Readers turn a Hugging Face config.json or GGUF metadata
// into it (core/graph/families); one decoder builder turns it into a graph (core/graph/decoder.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

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
  float norm_eps = 1e-5f;
  bool tied_embeddings = false;
  RopeSpec rope;
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
