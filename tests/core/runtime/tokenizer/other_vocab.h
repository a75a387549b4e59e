// The demo model's vocabulary in another order, which cuts text into other tokens.
#pragma once

#include "tests/core/runtime/tokenizer/demo_vocab.h"

namespace mlxr::testing {

inline constexpr int32_t kDemoVocab = 6144;

// The id there of the demo's token.
inline int32_t other_id(int32_t id) { return (id * 5 + 7) % kDemoVocab; }

// Its tokenizer.json; `without` > 0: every so many of the merges is missing, so that text is cut
// into smaller tokens.
inline nlohmann::json other_vocab(size_t without) {
  nlohmann::json json = read_json("models/mlxr-demo/tokenizer.json");
  for (auto& added : json["added_tokens"]) added["id"] = other_id(added["id"]);
  for (auto& id : json["model"]["vocab"]) id = other_id(id);
  if (without == 0) return json;
  nlohmann::json merges = nlohmann::json::array();
  for (size_t i = 0; i < json["model"]["merges"].size(); ++i) {
    if ((i + 1) % without != 0) merges.push_back(json["model"]["merges"][i]);
  }
  json["model"]["merges"] = std::move(merges);
  return json;
}

inline std::shared_ptr<const Tokenizer> other_tokenizer(size_t without) {
  return Tokenizer::from_json(other_vocab(without).dump());
}

}  // namespace mlxr::testing
