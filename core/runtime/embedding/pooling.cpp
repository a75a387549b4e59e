#include "core/runtime/embedding/pooling.h"

#include <cmath>
#include <utility>

namespace mlxr {
double dot(std::span<const float> a, std::span<const float> b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += double{a[i]} * b[i];
  return sum;
}

std::optional<Pooling> pooling_of(std::string_view name) {
  for (const PoolingName& entry : kPoolings) {
    if (entry.name == name) return entry.pooling;
  }
  return std::nullopt;
}

Pooler::Wants Pooler::wants(int64_t begin, int64_t end, int64_t length) const {
  if (pooling_ == Pooling::kMean || (pooling_ == Pooling::kCls && begin == 0)) return Wants::kAll;
  return end == length ? Wants::kLast : Wants::kNothing;
}

void Pooler::add(int64_t position, std::span<const float> state) {
  if (pooling_ == Pooling::kMean) {
    sum_.resize(state.size());
    for (size_t i = 0; i < state.size(); ++i) sum_[i] += state[i];
    ++count_;
  } else if (pooling_ == Pooling::kLast || position == 0) {
    chosen_.assign(state.begin(), state.end());
  }
}

std::vector<float> Pooler::result() const {
  if (pooling_ != Pooling::kMean) return chosen_;
  std::vector<float> mean;
  for (double value : sum_) mean.push_back(static_cast<float>(value / static_cast<double>(count_)));
  return mean;
}

std::vector<float> normalized(std::vector<float> vector) {
  const double length = std::sqrt(dot(vector, vector));
  if (length == 0) return vector;
  for (float& v : vector) v = static_cast<float>(v / length);
  return vector;
}

std::vector<float> shortened(std::vector<float> vector, size_t dimensions) {
  if (dimensions >= vector.size()) return vector;
  vector.resize(dimensions);
  return normalized(std::move(vector));
}

double cosine(std::span<const float> a, std::span<const float> b) {
  const double lengths = std::sqrt(dot(a, a) * dot(b, b));
  return lengths == 0 ? 0 : dot(a, b) / lengths;
}

}  // namespace mlxr
