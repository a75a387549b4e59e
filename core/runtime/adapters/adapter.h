// A LoRA adapter, read and made ready for the model that it adapts. Immutable, shared by threads
// and by requests: who holds one may use it, and another one in the next request is a hot swap.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/base/thread_pool.h"
#include "core/graph/adapter.h"
#include "core/runtime/model.h"

namespace mlxr {

struct Adapter {
  std::filesystem::path path;
  std::string identity;              // SHA-256 of all that it adds: equal ones change results alike
  int32_t rank = 0;                  // the largest
  std::vector<std::string> targets;  // "q", "down": the products that it adds to, in any layer
  int64_t bytes = 0;                 // of memory
  std::shared_ptr<const AdapterWeights> weights;
};

// As much of an adapter as a request wants.
struct ScaledAdapter {
  std::shared_ptr<const Adapter> adapter;
  float scale = 1;
  bool operator==(const ScaledAdapter&) const = default;
};

// True for what looks like an adapter: a folder with adapter_config.json, or a GGUF file of type
// "adapter".
bool is_adapter_path(const std::filesystem::path& path);

// Reads an adapter of either format for `model`, which may be of the other one.
// Throws Error{kNotFound, kCorruptFile, kUnsupported}: one sentence that names the file and the
// tensor, and what is found and expected, or what this build does not apply.
std::shared_ptr<const Adapter> load_adapter(const std::filesystem::path& path, const Model& model,
                                            ThreadPool& threads);

// What an adapter will take, known before it is loaded.
struct AdapterMemory {
  int64_t bytes = 0;  // Adapter::bytes
  int32_t rank = 0;   // the largest
};
// For a model of these facts; headers are read, not weights. Throws as load_adapter.
AdapterMemory read_adapter_memory(const std::filesystem::path& path, const ModelFacts& facts,
                                  const ModelSpec& spec);

// The salt (kv/kv_sequence.h) of sequences with these adapters: K/V are shared by those that have
// the same ones, by content, as strongly and in the same order, and the same `cache_salt`.
std::string kv_salt(const std::string& cache_salt, std::span<const ScaledAdapter> adapters);

}  // namespace mlxr
