#include "daemon/scheduler/load_refusal.h"

namespace mlxr {

Error cannot_load(const std::string& name, const MemoryEstimate& memory, const MemoryLimits& limits,
                  const Eviction& eviction) {
  const std::string model = "the model \"" + name + "\"";
  const int64_t wanted = memory.total();
  if (eviction.missing == 0) {
    return {ErrorCode::kOutOfMemory,
            model + " cannot be loaded: " + std::to_string(limits.models) +
                " models are loaded, all pinned, and there may be no more; unload one (mlx stop), "
                "or raise max_loaded_models"};
  }
  const std::string needs =
      model + " needs " + size_text(wanted) + " of memory (weights " + size_text(memory.weights) +
      ", KV cache " + size_text(memory.kv) + ", activations " + size_text(memory.activations) +
      (memory.adapters > 0 ? ", adapters " + size_text(memory.adapters) + ")" : ")");
  const std::string smaller = "give it a smaller kv_bytes or context_length, or raise memory_bytes";
  if (wanted > limits.bytes) {
    return {ErrorCode::kOutOfMemory, needs + ", more than the limit of " + size_text(limits.bytes) +
                                         " for all models; " + smaller};
  }
  return {ErrorCode::kOutOfMemory, needs + ", and of the limit of " + size_text(limits.bytes) +
                                       " only " + size_text(wanted - eviction.missing) +
                                       " are not held by pinned models; unload one (mlx stop), " +
                                       smaller};
}

Error cannot_add_adapter(const std::string& adapter, int64_t bytes, const MemoryLimits& limits,
                         const Eviction& eviction) {
  return {ErrorCode::kOutOfMemory,
          "the adapter \"" + adapter + "\" needs " + size_text(bytes) +
              " of memory, and of the limit of " + size_text(limits.bytes) +
              " for all models only " + size_text(bytes - eviction.missing) +
              " are free or held by idle models; try again when others have answered, unload a "
              "model (mlx stop), remove another adapter, or raise memory_bytes"};
}

}  // namespace mlxr
