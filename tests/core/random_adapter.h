// Adapters of random numbers, written as PEFT and llama.cpp write them, and merged into the weights
// of a model folder in float64: what an adapted model must compute.
#pragma once

#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "core/base/float16.h"
#include "core/formats/gguf_writer.h"
#include "core/formats/safetensors.h"
#include "core/graph/family.h"
#include "core/runtime/model.h"
#include "tests/core/write_safetensors.h"

namespace mlxr::testing {

struct RandomAdapter {
  struct Matrix {
    std::string hf, gguf;  // the module's names
    int64_t rows = 0, columns = 0;
    bool rotated = false;     // q and k
    std::vector<float> a, b;  // [rank, columns], [rows, rank]: exact in F16 and BF16
  };
  int64_t rank = 0;
  double alpha = 0;
  std::vector<Matrix> matrices;

  double scale() const { return alpha / static_cast<double>(rank); }
};

// Of every linear layer of a model without experts that a Hugging Face folder holds, or of those
// whose names hold `only`.
inline RandomAdapter random_adapter(const Model& model, int64_t rank, double alpha, uint32_t seed,
                                    const std::string& only = "") {
  const ModelSpec& s = model.spec;
  const Family& family = family_of_hf(model.facts.architecture, "the test's model");
  const TensorNames &hf = family.hf_names, &gguf = family.gguf_names;
  const int64_t q = int64_t{s.heads} * s.head_dim, kv = int64_t{s.kv_heads} * s.head_dim;
  RandomAdapter out{.rank = rank, .alpha = alpha, .matrices = {}};
  std::mt19937 random(seed);
  const auto values = [&](int64_t count) {
    std::vector<float> x(static_cast<size_t>(count));
    for (float& v : x) v = static_cast<float>(static_cast<int>(random() % 65) - 32) / 256.0f;
    return x;
  };
  for (int32_t i = 0; i < s.layers; ++i) {
    const auto add = [&](const std::string& a, const std::string& b, int64_t rows, int64_t columns,
                         bool rotated = false) {
      if (a.find(only) == std::string::npos) return;
      out.matrices.push_back({.hf = in_layer(a, i),
                              .gguf = in_layer(b, i),
                              .rows = rows,
                              .columns = columns,
                              .rotated = rotated,
                              .a = values(rank * columns),
                              .b = values(rows * rank)});
    };
    add(hf.q, gguf.q, q, s.hidden, true);
    add(hf.k, gguf.k, kv, s.hidden, true);
    add(hf.v, gguf.v, kv, s.hidden);
    add(hf.o, gguf.o, s.hidden, q);
    if (s.gated_mlp) add(hf.gate, gguf.gate, s.ffn, s.hidden);
    add(hf.up, gguf.up, s.ffn, s.hidden);
    add(hf.down, gguf.down, s.hidden, s.ffn);
  }
  return out;
}

inline std::string as_dtype(const std::vector<float>& values, const std::string& dtype) {
  if (dtype == "F32") return bytes_of(values);
  std::vector<uint16_t> halves;
  for (float v : values) halves.push_back(dtype == "F16" ? f32_to_f16(v) : f32_to_bf16(v));
  return bytes_of(halves);
}

inline nlohmann::json peft_config(const RandomAdapter& adapter) {
  return {{"peft_type", "LORA"},
          {"r", adapter.rank},
          {"lora_alpha", adapter.alpha},
          {"use_rslora", false},
          {"use_dora", false},
          {"bias", "none"},
          {"fan_in_fan_out", false},
          {"init_lora_weights", true},
          {"modules_to_save", nullptr},
          {"rank_pattern", nlohmann::json::object()},
          {"alpha_pattern", nlohmann::json::object()},
          {"target_modules", {"q_proj"}}};
}

inline std::map<std::string, SafetensorsEntry> peft_tensors(const RandomAdapter& adapter,
                                                            const std::string& dtype = "F32") {
  std::map<std::string, SafetensorsEntry> tensors;
  for (const RandomAdapter::Matrix& m : adapter.matrices) {
    const std::string name = "base_model.model." + m.hf;
    tensors[name + ".lora_A.weight"] = {dtype, {adapter.rank, m.columns}, as_dtype(m.a, dtype)};
    tensors[name + ".lora_B.weight"] = {dtype, {m.rows, adapter.rank}, as_dtype(m.b, dtype)};
  }
  return tensors;
}

inline void write_peft(const std::filesystem::path& folder, const nlohmann::json& config,
                       const std::map<std::string, SafetensorsEntry>& tensors) {
  std::filesystem::create_directories(folder);
  write_file_atomic(folder / "adapter_config.json", config.dump());
  write_safetensors(folder / "adapter_model.safetensors", tensors);
}

inline void write_peft(const std::filesystem::path& folder, const RandomAdapter& adapter,
                       const std::string& dtype = "F32") {
  write_peft(folder, peft_config(adapter), peft_tensors(adapter, dtype));
}

// GGUF's order of the rows of a head of Q or K: the two halves alternate.
inline std::vector<float> alternating(const std::vector<float>& rows, int64_t row_size,
                                      int64_t head_dim) {
  std::vector<float> out(rows.size());
  const int64_t count = static_cast<int64_t>(rows.size()) / row_size, half = head_dim / 2;
  for (int64_t r = 0; r < count; ++r) {
    const int64_t head = r / head_dim, part = r % head_dim / half, i = r % half;
    const int64_t to = head * head_dim + 2 * i + part;
    std::copy_n(rows.begin() + r * row_size, row_size, out.begin() + to * row_size);
  }
  return out;
}

// `alternate`: as for models whose q and k have GGUF's order of rows.
inline void write_gguf_adapter(const std::filesystem::path& file, const RandomAdapter& adapter,
                               const ModelSpec& spec, bool alternate,
                               QuantFormat format = QuantFormat::kF32) {
  GgufWriter writer;
  writer.add("general.type", std::string("adapter"));
  writer.add("general.architecture", spec.architecture);
  writer.add("adapter.type", std::string("lora"));
  writer.add("adapter.lora.alpha", adapter.alpha);
  const auto add = [&](const std::string& name, std::vector<int64_t> shape,
                       const std::vector<float>& values) {
    const int64_t columns = shape[1];
    writer.add_tensor(name, format, std::move(shape), [=](std::span<std::byte> out) {
      const auto row = static_cast<size_t>(row_bytes(format, columns));
      for (size_t at = 0, r = 0; at < out.size(); at += row, ++r) {
        info(format).quantize(values.data() + static_cast<int64_t>(r) * columns, out.data() + at,
                              columns);
      }
    });
  };
  for (const RandomAdapter::Matrix& m : adapter.matrices) {
    add(m.gguf + ".weight.lora_a", {adapter.rank, m.columns}, m.a);
    add(m.gguf + ".weight.lora_b", {m.rows, adapter.rank},
        alternate && m.rotated ? alternating(m.b, adapter.rank, spec.head_dim) : m.b);
  }
  writer.write(file);
}

// A copy of the model folder in float32 with W + strength * alpha / rank * B A in place of each W.
inline void write_merged(const std::filesystem::path& from, const std::filesystem::path& to,
                         const std::vector<std::pair<const RandomAdapter*, double>>& adapters) {
  const Safetensors source = Safetensors::open_folder(from);
  std::map<std::string, SafetensorsEntry> tensors;
  for (const auto& [name, tensor] : source.tensors()) {
    WeightView view = as_weight(name, tensor);
    if (view.shape.size() == 1) view.shape = {1, view.shape[0]};
    std::vector<float> w(static_cast<size_t>(view.elements()));
    for (int64_t r = 0; r < view.rows(); ++r) {
      dequantize_row(view, r, w.data() + r * view.columns());
    }
    std::vector<double> sum(w.begin(), w.end());
    for (const auto& [adapter, strength] : adapters) {
      for (const RandomAdapter::Matrix& m : adapter->matrices) {
        if (m.hf + ".weight" != name) continue;
        for (int64_t r = 0; r < m.rows; ++r) {
          for (int64_t c = 0; c < m.columns; ++c) {
            double dot = 0;
            for (int64_t i = 0; i < adapter->rank; ++i) {
              dot += double{m.b[static_cast<size_t>(r * adapter->rank + i)]} *
                     double{m.a[static_cast<size_t>(i * m.columns + c)]};
            }
            sum[static_cast<size_t>(r * m.columns + c)] += strength * adapter->scale() * dot;
          }
        }
      }
    }
    tensors[name] = {"F32", tensor.shape, bytes_of(std::vector<float>(sum.begin(), sum.end()))};
  }
  std::filesystem::create_directories(to);
  std::filesystem::copy_file(from / "config.json", to / "config.json");
  write_safetensors(to / "model.safetensors", tensors);
}

}  // namespace mlxr::testing
