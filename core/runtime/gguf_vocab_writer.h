// A tokenizer.json in GGUF's terms.
#pragma once

#include <filesystem>

#include "core/formats/gguf_writer.h"

namespace mlxr {

// Adds tokenizer.ggml.* and tokenizer.chat_template from tokenizer.json, tokenizer_config.json and
// generation_config.json in `folder`. `vocab` is the model's vocabulary: ids without a token are
// written as unused. Throws Error{kUnsupported} naming the part that GGUF cannot express.
void write_gguf_vocab(const std::filesystem::path& folder, int32_t vocab, GgufWriter& writer);

}  // namespace mlxr
