// A real model that is quick enough for a test, with a small context and an arena of chosen size.
#pragma once

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "core/runtime/engine.h"
#include "core/runtime/kv/arena.h"
#include "core/runtime/kv/kv_disk.h"
#include "tests/core/random_adapter.h"
#include "tests/core/runtime/tokenizer/other_vocab.h"
#include "tests/core/temp_folder.h"
#include "tests/source_dir.h"

namespace mlxr::testing {

inline constexpr int32_t kContext = 192;
inline constexpr int32_t kBlockTokens = 16;

inline std::shared_ptr<const Model> tiny_model() {
  static const auto kModel = load_model(testing::source_dir() / "models" / "mlxr-demo-draft");
  return kModel;
}

// Adapters of the tiny model, strong enough to change what it says.
inline const std::vector<std::shared_ptr<const Adapter>>& tiny_adapters() {
  static const auto kAdapters = [] {
    const TempFolder folder;
    ThreadPool threads(1);
    std::vector<std::shared_ptr<const Adapter>> adapters;
    for (uint32_t i = 0; i < 2; ++i) {
      const auto path = folder.path() / std::to_string(i);
      write_peft(path, random_adapter(*tiny_model(), 2 + 6 * i, 2, 40 + i));
      adapters.push_back(load_adapter(path, *tiny_model(), threads));
    }
    return adapters;
  }();
  return kAdapters;
}

// The same weights where two layers of three see the last positions alone.
inline std::shared_ptr<const Model> with_windows(const std::shared_ptr<const Model>& model) {
  auto windowed = std::make_shared<Model>(*model);
  for (int32_t i = 0; i < model->spec.layers; ++i) {
    windowed->spec.windows.push_back(i % 3 == 2 ? 0 : 40 + i);
  }
  return windowed;
}

// The same weights under another vocabulary (other_vocab.h).
inline std::shared_ptr<const Model> tiny_model_with_other_vocab(size_t without) {
  const TempFolder folder;
  const auto from = testing::source_dir() / "models" / "mlxr-demo-draft";
  for (const char* name : {"config.json", "tokenizer_config.json"}) {
    std::filesystem::copy_file(from / name, folder.path() / name);
  }
  write_file_atomic(folder.path() / "tokenizer.json", other_vocab(without).dump());
  std::string weights = read_file(from / "model.safetensors");
  uint64_t size = 0;
  std::memcpy(&size, weights.data(), 8);
  const auto header = nlohmann::json::parse(weights.substr(8, size));
  const auto& embedding = header["model.embed_tokens.weight"];
  const size_t begin = 8 + size + embedding["data_offsets"][0].get<size_t>();
  const size_t row = embedding["shape"][1].get<size_t>() * 2;  // BF16
  const std::string rows = weights.substr(begin, kDemoVocab * row);
  for (int32_t id = 0; id < kDemoVocab; ++id) {
    std::memcpy(&weights[begin + static_cast<size_t>(other_id(id)) * row],
                &rows[static_cast<size_t>(id) * row], row);
  }
  write_file_atomic(folder.path() / "model.safetensors", weights);
  return load_model(folder.path());
}

inline std::unique_ptr<Engine> tiny_engine(int32_t blocks, KvType type, int threads,
                                           std::shared_ptr<const Model> model = tiny_model(),
                                           int32_t window_step = 512) {
  const ModelSpec& spec = model->spec;
  const ArenaShape shape{spec.layers, spec.kv_heads, spec.head_dim, kBlockTokens, type};
  const EngineOptions options{.context_length = kContext,
                              .kv_bytes = blocks * shape.block_bytes(),
                              .kv_type = type,
                              .kv_block_tokens = kBlockTokens,
                              .window_step_tokens = window_step};
  return std::make_unique<Engine>(std::move(model), options, std::make_shared<ThreadPool>(threads));
}

}  // namespace mlxr::testing
