// WordPiece, from a tokenizer.json and as GGUF spells its vocabulary: both give the same ids,
// worked out by hand, and the same text back.
#include <gtest/gtest.h>

#include "core/runtime/tokenizer/tokenizer.h"
#include "tests/core/runtime/tokenizer/demo_vocab.h"

namespace mlxr::testing {
namespace {

using Ids = std::vector<int32_t>;
using TokenizerPtr = std::shared_ptr<const Tokenizer>;

const char* const kFile = "tests/goldens/bert/tokenizer.json";

TokenizerPtr from_json() { return Tokenizer::from_json(read_file(source_path(kFile))); }

// As a converter writes it: U+2581 before words, nothing before the rest of a word.
GgufVocab gguf_vocab() {
  GgufVocab vocab;
  vocab.model = "bert";
  const nlohmann::json words = read_json(kFile)["model"]["vocab"];
  vocab.tokens.resize(words.size());
  vocab.token_types.resize(words.size(), 1);
  for (const auto& [word, id] : words.items()) {
    const auto at = id.get<size_t>();
    const bool control = word.starts_with('[') && word.size() > 2;
    vocab.tokens[at] = control ? word : word.starts_with("##") ? word.substr(2) : "\u2581" + word;
    if (control) vocab.token_types[at] = 3;
  }
  vocab.unk = 1;
  vocab.bos = 2;
  vocab.eos = 3;
  vocab.add_bos = vocab.add_eos = true;
  return vocab;
}

class WordPiece : public ::testing::TestWithParam<bool> {
 protected:
  TokenizerPtr tokenizer_ = GetParam() ? Tokenizer::from_gguf(gguf_vocab()) : from_json();
};

TEST_P(WordPiece, SplitsWords) {
  const auto ids = [&](const char* text) { return tokenizer_->encode(text, false, false); };
  EXPECT_EQ(ids("Hello, worlds."), (Ids{149, 78, 148, 49, 77}));
  EXPECT_EQ(ids("  H\u00e9llo\n"), (Ids{149}));  // without the accent
  EXPECT_EQ(ids("unaffable"), (Ids{215, 226, 221}));
  EXPECT_EQ(ids("\u6771"), (Ids{1}));  // unknown
  EXPECT_EQ(ids(""), Ids{});
}

TEST_P(WordPiece, PutsATextBetweenItsMarks) {
  EXPECT_EQ(tokenizer_->encode("cat", true, false), (Ids{2, 170, 3}));
  EXPECT_EQ(tokenizer_->encode("", true, false), (Ids{2, 3}));
}

TEST_P(WordPiece, TypedMarksStayText) {
  EXPECT_EQ(tokenizer_->encode("[CLS]", false, false), (Ids{87, 7, 42, 49, 88}));
  EXPECT_EQ(tokenizer_->encode("[CLS]", false, true), (Ids{2}));
}

TEST_P(WordPiece, GivesTextBack) {
  EXPECT_EQ(tokenizer_->decode(Ids{2, 149, 78, 148, 49, 77, 3}, true), "hello, worlds.");
  EXPECT_EQ(tokenizer_->decode(Ids{2, 170, 3}, false), "[CLS] cat [SEP]");
  EXPECT_EQ(tokenizer_->token_bytes(226), "aff");
}

TEST_P(WordPiece, CountsItsTokens) {
  EXPECT_EQ(tokenizer_->vocab_size(), 235);
  EXPECT_TRUE(tokenizer_->is_special(2));
  EXPECT_FALSE(tokenizer_->is_special(149));
  EXPECT_EQ(tokenizer_->token_id("[SEP]"), 3);
}

INSTANTIATE_TEST_SUITE_P(Forms, WordPiece, ::testing::Bool(), [](const auto& param) {
  return std::string(param.param ? "Gguf" : "Json");
});

TEST(WordPieceGguf, NeedsAnUnknownToken) {
  GgufVocab vocab = gguf_vocab();
  vocab.unk.reset();
  vocab.tokens[1] = "[NONE]";
  EXPECT_THROW(Tokenizer::from_gguf(vocab), std::exception);
}

}  // namespace
}  // namespace mlxr::testing
