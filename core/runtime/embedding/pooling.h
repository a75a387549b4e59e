// From the states of a text's tokens to one vector.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace mlxr {

enum class Pooling : uint8_t {
  kMean,  // of all tokens
  kCls,   // the first token's
  kLast,  // the last token's
  kRank,  // not for a vector: the model judges a query and a document (reranker.h)
};

struct PoolingName {
  Pooling pooling;
  std::string_view name;
};
inline constexpr std::array<PoolingName, 4> kPoolings{{{Pooling::kMean, "mean"},
                                                       {Pooling::kCls, "cls"},
                                                       {Pooling::kLast, "last"},
                                                       {Pooling::kRank, "rank"}}};
std::optional<Pooling> pooling_of(std::string_view name);

// Takes states in the order of their tokens, in any number of pieces: the result is the same bit
// for bit. Mean, cls or last.
class Pooler {
 public:
  explicit Pooler(Pooling pooling) : pooling_(pooling) {}

  // Which states it needs of tokens [begin, end) of a text of `length`.
  enum class Wants { kNothing, kLast, kAll };
  Wants wants(int64_t begin, int64_t end, int64_t length) const;
  void add(int64_t position, std::span<const float> state);
  std::vector<float> result() const;  // after at least one state

 private:
  Pooling pooling_;
  int64_t count_ = 0;
  std::vector<double> sum_;
  std::vector<float> chosen_;
};

// Of length 1; a vector of zeros stays as it is.
std::vector<float> normalized(std::vector<float> vector);

// Its first `dimensions`, of length 1 again: what Matryoshka models are trained for (Kusupati et
// al. 2022).
std::vector<float> shortened(std::vector<float> vector, size_t dimensions);

double dot(std::span<const float> a, std::span<const float> b);

// Of two vectors of the same size; 0 where one is all zeros.
double cosine(std::span<const float> a, std::span<const float> b);

}  // namespace mlxr
