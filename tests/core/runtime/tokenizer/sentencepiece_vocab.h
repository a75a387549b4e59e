// SentencePiece vocabularies for tests, as GGUF stores them (tests/text/make_fixtures.py).
#pragma once

#include "tests/core/runtime/tokenizer/demo_vocab.h"

namespace mlxr::testing {

// Each with texts and the ids that sentencepiece itself gave.
inline const nlohmann::json& sentencepiece_fixtures() {
  static const nlohmann::json json = read_json("tests/text/fixtures/spm_cases.json");
  return json;
}

inline GgufVocab vocab_of(const nlohmann::json& fixture) {
  GgufVocab vocab;
  vocab.model = "llama";
  vocab.tokens = fixture["tokens"].get<std::vector<std::string>>();
  vocab.scores = fixture["scores"].get<std::vector<float>>();
  vocab.token_types = fixture["token_types"].get<std::vector<int32_t>>();
  vocab.add_space_prefix = fixture["add_space_prefix"];
  return vocab;
}

}  // namespace mlxr::testing
