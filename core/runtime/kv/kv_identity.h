// Under which key KV blocks are named so that they are found again by another process: one that
// would have computed the same bits, and no other.
#pragma once

#include <filesystem>
#include <span>
#include <string>

#include "core/graph/model_spec.h"
#include "core/runtime/kv/arena.h"
#include "core/runtime/kv/block_hash.h"
#include "core/runtime/model.h"

namespace mlxr {

// What the bits of a model's keys and values depend on: its files (their names, sizes, times and a
// sample of their content), how blocks are laid out, the angles of the rotation, and the program
// that computes. Not a text for people.
std::string kv_identity(const Model& model, const ArenaShape& shape,
                        std::span<const RopeFrequencies> ropes,
                        const std::filesystem::path& program);

// The secret of a folder with persisted blocks, made when it is missing or damaged (mode 0600): who
// does not know it cannot choose prompts whose blocks are named alike (block_hash.h).
struct FolderSecret {
  HashKey key;
  bool replaced = false;  // what was there was damaged: no block is found under its name again
};
FolderSecret folder_secret(const std::filesystem::path& folder);

// The key for blocks of this identity.
HashKey kv_key(const HashKey& secret, const std::string& identity);

}  // namespace mlxr
