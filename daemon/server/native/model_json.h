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
// A loaded model: {name, context_length, kv_bytes, running, waiting, ...}.
Json loaded_model(const LoadedModelInfo& model);

}  // namespace mlxr::native
