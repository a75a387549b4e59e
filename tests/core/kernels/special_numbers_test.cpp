// What is no number stays no number, in its row alone: every kernel of rows, with NaN and both
// infinities at every place, against the same in float64. Products, attention, softmax and top-k
// have tests of their own.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>

#include "core/kernels/cpu/activation.h"
#include "core/kernels/cpu/elementwise.h"
#include "core/kernels/cpu/norm.h"
#include "tests/core/kernels/attention_sequence.h"

namespace mlxr {
namespace {

using cpu::Activation;
using testing::Floats;
using Doubles = std::vector<double>;

// A kernel of one row: what it makes of it, and what float64 does.
struct Kernel {
  std::string name;
  std::function<Floats(Floats)> run;
  std::function<Doubles(const Doubles&)> reference;
  double tolerance = 1e-5;  // relative, and absolute for results below 1
};

void PrintTo(const Kernel& kernel, std::ostream* out) { *out << kernel.name; }

// A second operand, without a special number.
float other(size_t i) { return 0.5f + 0.25f * static_cast<float>(i % 7); }
Floats others(size_t n) {
  Floats out(n);
  for (size_t i = 0; i < n; ++i) out[i] = other(i);
  return out;
}
int64_t length(const Floats& x) { return static_cast<int64_t>(x.size()); }

// Of kernels that change a row in place, an element at a time.
Kernel each(std::string name, std::function<void(float*, int64_t)> run,
            std::function<double(double, size_t)> reference) {
  return {std::move(name),
          [run](Floats x) {
            run(x.data(), length(x));
            return x;
          },
          [reference](const Doubles& x) {
            Doubles out;
            for (size_t i = 0; i < x.size(); ++i) out.push_back(reference(x[i], i));
            return out;
          }};
}

std::vector<Kernel> elementwise() {
  std::vector<Kernel> all = {
      each(
          "add",
          [](float* x, int64_t n) { cpu::add(x, others(static_cast<size_t>(n)).data(), n, x); },
          [](double x, size_t i) { return x + other(i); }),
      each(
          "add_scaled, the sum",
          [](float* x, int64_t n) {
            cpu::add_scaled(others(static_cast<size_t>(n)).data(), 0.5f, n, x);
          },
          [](double x, size_t i) { return x + 0.5 * other(i); }),
      each(
          "add_scaled, what is added",
          [](float* x, int64_t n) {
            Floats sum = others(static_cast<size_t>(n));
            cpu::add_scaled(x, 0.5f, n, sum.data());
            std::copy(sum.begin(), sum.end(), x);
          },
          [](double x, size_t i) { return other(i) + 0.5 * x; }),
      each(
          "scale", [](float* x, int64_t n) { cpu::scale(x, 1.5f, n); },
          [](double x, size_t) { return 1.5 * x; }),
      each(
          "soft_cap", [](float* x, int64_t n) { cpu::soft_cap(x, 3.0f, n); },
          [](double x, size_t) { return 3 * std::tanh(x / 3); })};
  for (bool interleaved : {false, true}) {
    const auto angle = [](size_t i) { return 0.7 * static_cast<double>(i + 1); };
    all.push_back({interleaved ? "rope, neighbours" : "rope, halves",
                   [=](Floats x) {
                     Floats cos, sin;
                     for (size_t i = 0; i < x.size() / 2; ++i) {
                       cos.push_back(static_cast<float>(std::cos(angle(i))));
                       sin.push_back(static_cast<float>(std::sin(angle(i))));
                     }
                     cpu::rope(x.data(), cos.data(), sin.data(), length(x) / 2, interleaved);
                     return x;
                   },
                   [=](const Doubles& x) {
                     Doubles out(x.size());
                     const size_t half = x.size() / 2;
                     for (size_t i = 0; i < half; ++i) {
                       const size_t a = interleaved ? 2 * i : i,
                                    b = interleaved ? 2 * i + 1 : i + half;
                       out[a] = x[a] * std::cos(angle(i)) - x[b] * std::sin(angle(i));
                       out[b] = x[a] * std::sin(angle(i)) + x[b] * std::cos(angle(i));
                     }
                     return out;
                   }});
  }
  return all;
}

std::vector<Kernel> norms() {
  const auto normed = [](const Doubles& x, double mean) {
    double squares = 0;
    for (double v : x) squares += (v - mean) * (v - mean);
    const double scale = 1 / std::sqrt(squares / static_cast<double>(x.size()) + 1e-5);
    Doubles out;
    for (size_t i = 0; i < x.size(); ++i) out.push_back((x[i] - mean) * scale * other(i));
    return out;
  };
  std::vector<Kernel> all = {{"rms_norm",
                              [](Floats x) {
                                const Floats weight = others(x.size());
                                cpu::rms_norm(x.data(), weight.data(), 1e-5f, length(x), x.data());
                                return x;
                              },
                              [=](const Doubles& x) { return normed(x, 0); }}};
  for (bool bias : {false, true}) {
    all.push_back({bias ? "layer_norm with a bias" : "layer_norm",
                   [=](Floats x) {
                     const Floats w = others(x.size());
                     cpu::layer_norm(x.data(), w.data(), bias ? w.data() : nullptr, 1e-5f,
                                     length(x), x.data());
                     return x;
                   },
                   [=](const Doubles& x) {
                     double mean = 0;
                     for (double v : x) mean += v / static_cast<double>(x.size());
                     Doubles out = normed(x, mean);
                     for (size_t i = 0; bias && i < out.size(); ++i) out[i] += other(i);
                     return out;
                   }});
  }
  return all;
}

double activated(Activation f, double x) {
  switch (f) {
    case Activation::kSilu:
      return x / (1 + std::exp(-x));
    case Activation::kGelu:
      return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
    case Activation::kGeluTanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / std::acos(-1.0)) * (x + 0.044715 * x * x * x)));
    case Activation::kRelu:
      return x < 0 ? 0 : x;
  }
  return 0;
}

std::vector<Kernel> activations() {
  std::vector<Kernel> all;
  const char* names[] = {"silu", "gelu", "gelu_tanh", "relu"};
  for (Activation f :
       {Activation::kSilu, Activation::kGelu, Activation::kGeluTanh, Activation::kRelu}) {
    const std::string name = names[static_cast<int>(f)];
    all.push_back(each(
        name, [=](float* x, int64_t n) { cpu::activate(f, x, n); },
        [=](double x, size_t) { return activated(f, x); }));
    all.push_back(each(
        name + " of a gate",
        [=](float* x, int64_t n) {
          cpu::activate_gated(f, x, others(static_cast<size_t>(n)).data(), n);
        },
        [=](double x, size_t i) { return activated(f, x) * other(i); }));
    all.push_back(each(
        name + " times up",
        [=](float* x, int64_t n) {
          Floats gate = others(static_cast<size_t>(n));
          cpu::activate_gated(f, gate.data(), x, n);
          std::copy(gate.begin(), gate.end(), x);
        },
        [=](double x, size_t i) { return activated(f, other(i)) * x; }));
  }
  return all;
}

// What a head's key or value is when it is read again. Formats with scales lose a whole group.
std::vector<Kernel> stores() {
  std::vector<Kernel> all;
  for (const KvTypeName& type : kKvTypes) {
    for (bool key : {false, true}) {
      const auto run = [=](const Floats& x) {
        const testing::AttentionCase c{.kv_heads = 1,
                                       .dim = static_cast<int32_t>(x.size()),
                                       .tokens = 3,
                                       .block_tokens = 16,
                                       .type = type.type};
        const testing::Sequence s(c);
        cpu::kv_store(s.layer, s.block(1), 1, x.data(), x.data());
        Floats out;
        for (int64_t i = 0; i < c.dim; ++i) {
          out.push_back(static_cast<float>(s.number(key, 1, 0, i)));
        }
        return out;
      };
      const auto reference = [=](Doubles x) {
        if (!cpu::kv_has_scales(type.type)) return x;
        for (size_t i = 0; i < x.size(); ++i) {
          const size_t group = i / 32 * 32;
          for (size_t j = group; j < std::min(group + 32, x.size()); ++j) {
            if (!std::isfinite(x[j])) x[i] = NAN;
          }
        }
        return x;
      };
      all.push_back({std::string(type.name) + (key ? " key" : " value"), run, reference, 0.3});
    }
  }
  return all;
}

void expect_as_float64(const Kernel& kernel, const Floats& x, const std::string& what) {
  const Floats out = kernel.run(x);
  const Doubles expected = kernel.reference(Doubles(x.begin(), x.end()));
  ASSERT_EQ(out.size(), expected.size());
  for (size_t i = 0; i < out.size(); ++i) {
    if (std::isfinite(expected[i])) {
      ASSERT_NEAR(out[i], expected[i], kernel.tolerance * std::max(1.0, std::abs(expected[i])))
          << what << ": element " << i;
    } else {
      ASSERT_FALSE(std::isfinite(out[i])) << what << ": element " << i << " is " << out[i];
    }
  }
}

class SpecialNumbers : public ::testing::TestWithParam<Kernel> {};

TEST_P(SpecialNumbers, StayNoNumbersWhereFloat64SaysSo) {
  const Kernel& kernel = GetParam();
  for (size_t n : {2, 6, 16, 34, 80}) {
    Floats row(n);
    for (size_t i = 0; i < n; ++i) row[i] = 0.3f * static_cast<float>(i % 11) - 1.4f;
    expect_as_float64(kernel, row, kernel.name + " of numbers");
    const Floats clean = kernel.run(row);
    for (float bad : {NAN, INFINITY, -INFINITY}) {
      for (size_t at = 0; at < n; ++at) {
        Floats spoiled = row;
        spoiled[at] = bad;
        expect_as_float64(kernel, spoiled,
                          kernel.name + " of " + std::to_string(n) + " with " +
                              std::to_string(bad) + " at " + std::to_string(at));
        if (HasFatalFailure()) return;
      }
    }
    ASSERT_EQ(kernel.run(row), clean) << kernel.name << ": another row's numbers stayed";
  }
}

std::string name_of(const ::testing::TestParamInfo<Kernel>& info) {
  std::string out;
  for (char c : info.param.name) {
    if (std::isalnum(static_cast<unsigned char>(c)) != 0) out += c;
  }
  return out;
}

INSTANTIATE_TEST_SUITE_P(Elementwise, SpecialNumbers, ::testing::ValuesIn(elementwise()), name_of);
INSTANTIATE_TEST_SUITE_P(Norms, SpecialNumbers, ::testing::ValuesIn(norms()), name_of);
INSTANTIATE_TEST_SUITE_P(Activations, SpecialNumbers, ::testing::ValuesIn(activations()), name_of);
INSTANTIATE_TEST_SUITE_P(KvStore, SpecialNumbers, ::testing::ValuesIn(stores()), name_of);

}  // namespace
}  // namespace mlxr
