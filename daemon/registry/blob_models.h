// Models and adapters whose files are blobs: the names that a loader wants, as links to them.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "daemon/registry/blob_store.h"
#include "daemon/registry/created_models.h"

namespace mlxr {

// A model's path, made of uploaded blobs: one GGUF file, or what a model folder holds. `files` maps
// their names to digests. Throws Error{kInvalidArgument} for a blob that is missing, a name that is
// no plain file name, and files that are no model.
std::filesystem::path link_blobs(const BlobStore& blobs,
                                 const std::map<std::string, std::string>& files);

// The same for LoRA adapters: one for each GGUF file, or one PEFT folder. With their names.
std::vector<CreatedAdapter> link_adapter_blobs(const BlobStore& blobs,
                                               const std::map<std::string, std::string>& files);

// Removes what was linked as `path`, and its blobs, as far as none of `others` needs them. Does
// nothing for what lies elsewhere.
void remove_blobs(const BlobStore& blobs, const std::filesystem::path& path,
                  const std::vector<std::filesystem::path>& others);

}  // namespace mlxr
