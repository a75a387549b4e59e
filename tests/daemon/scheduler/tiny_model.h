// A real model that is quick enough for a test, with a small context and an arena of chosen size.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <vector>

#include "core/runtime/engine.h"
#include "core/runtime/kv/arena.h"
#include "core/runtime/kv/kv_disk.h"
#include "tests/core/random_adapter.h"
#include "tests/core/temp_folder.h"

namespace mlxr::testing {

inline constexpr int32_t kContext = 192;
inline constexpr int32_t kBlockTokens = 16;

inline std::shared_ptr<const Model> tiny_model() {
  static const auto kModel =
      load_model(std::filesystem::path(MLXR_SOURCE_DIR) / "models" / "mlxr-demo-draft");
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
inline std::shared_ptr<const Model> tiny_windowed_model() {
  static const auto kModel = [] {
    auto model = std::make_shared<Model>(*tiny_model());
    for (int32_t i = 0; i < model->spec.layers; ++i) {
      model->spec.windows.push_back(i % 3 == 2 ? 0 : 40 + i);
    }
    return model;
  }();
  return kModel;
}

inline std::unique_ptr<Engine> tiny_engine(int32_t blocks, KvType type, int threads,
                                           bool windows = false, int32_t window_step = 512) {
  const auto model = windows ? tiny_windowed_model() : tiny_model();
  const ModelSpec& spec = model->spec;
  const ArenaShape shape{spec.layers, spec.kv_heads, spec.head_dim, kBlockTokens, type};
  const EngineOptions options{.context_length = kContext,
                              .kv_bytes = blocks * shape.block_bytes(),
                              .kv_type = type,
                              .kv_block_tokens = kBlockTokens,
                              .window_step_tokens = window_step};
  return std::make_unique<Engine>(model, options, std::make_shared<ThreadPool>(threads));
}

}  // namespace mlxr::testing
