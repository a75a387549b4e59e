// The demo model's tokenizer for tests: its tokenizer.json, and the same as a GGUF vocabulary.
#pragma once

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/base/file.h"
#include "core/runtime/tokenizer/tokenizer.h"
#include "tests/source_dir.h"

namespace mlxr::testing {

inline std::filesystem::path source_path(const std::string& relative) {
  return testing::source_dir() / relative;
}

inline nlohmann::json read_json(const std::string& relative) {
  return nlohmann::json::parse(read_file(source_path(relative)));
}

inline const std::shared_ptr<const Tokenizer>& demo_tokenizer() {
  static const std::shared_ptr<const Tokenizer> tokenizer =
      Tokenizer::from_json(read_file(source_path("models/mlxr-demo/tokenizer.json")));
  return tokenizer;
}

// What a converter writes into tokenizer.ggml.* for the demo.
inline GgufVocab demo_gguf_vocab() {
  const nlohmann::json json = read_json("models/mlxr-demo/tokenizer.json");
  GgufVocab vocab;
  vocab.model = "gpt2";
  vocab.pre = "smollm";
  const auto place = [&vocab](size_t id, const std::string& token, int32_t type) {
    if (vocab.tokens.size() <= id) {
      vocab.tokens.resize(id + 1);
      vocab.token_types.resize(id + 1, 5);
    }
    vocab.tokens[id] = token;
    vocab.token_types[id] = type;
  };
  for (const auto& [token, id] : json["model"]["vocab"].items()) place(id, token, 1);
  for (const auto& added : json["added_tokens"]) {
    place(added["id"], added["content"], added["special"] ? 3 : 4);
  }
  for (const auto& merge : json["model"]["merges"]) {
    vocab.merges.push_back(merge[0].get<std::string>() + " " + merge[1].get<std::string>());
  }
  return vocab;
}

}  // namespace mlxr::testing
