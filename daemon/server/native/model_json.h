// Models as the native endpoints write them.
#pragma once

#include "daemon/server/json_body.h"
#include "daemon/server/services.h"

namespace mlxr::native {

// {name, path, format, architecture, ..., is_default, loaded}, or `error` for a file that cannot be
// read.
Json model_summary(Services& services, const ModelEntry& entry);
// The summary with the tokenizer's and template's facts. Throws what load_model throws.
Json model_details(Services& services, const std::string& name);
// A model's adapter: {id, name, path, scale, loaded}, and what is known once it is loaded.
Json adapter_json(const AdapterInfo& adapter);
Json adapter_list(const std::vector<AdapterInfo>& adapters);
// A loaded model: {name, context_length, kv_bytes, running, waiting, ...}.
Json loaded_model(const LoadedModelInfo& model);
// What all of them take: {limit_bytes, reserved_bytes, ...}.
Json memory_state(const MemoryStats& memory);

}  // namespace mlxr::native
