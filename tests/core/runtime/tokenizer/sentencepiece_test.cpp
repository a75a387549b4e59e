// GGUF's SentencePiece vocabularies, against ids that sentencepiece itself gave
// (tests/text/make_fixtures.py).
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "core/base/error.h"
#include "core/runtime/tokenizer/tokenizer.h"
#include "tests/core/runtime/tokenizer/random_text.h"
#include "tests/core/runtime/tokenizer/sentencepiece_vocab.h"

namespace mlxr::testing {
namespace {

using Ids = std::vector<int32_t>;

const nlohmann::json& fixtures() { return sentencepiece_fixtures(); }

// The vocabulary spells a space as U+2581, so that this character itself reads as a space.
std::string with_plain_spaces(std::string_view text) {
  constexpr std::string_view kMark = "\u2581";
  std::string plain;
  for (size_t at; (at = text.find(kMark)) != text.npos; text.remove_prefix(at + kMark.size())) {
    plain.append(text.substr(0, at)).push_back(' ');
  }
  return plain.append(text);
}

TEST(TokenizerGgufSentencePiece, GivesTheIdsOfSentencepiece) {
  size_t checked = 0;
  for (const auto& fixture : fixtures()) {
    const auto tokenizer = Tokenizer::from_gguf(vocab_of(fixture));
    for (const auto& example : fixture["cases"]) {
      const std::string text = example[0];
      EXPECT_EQ(tokenizer->encode(text, false, false), example[1].get<Ids>()) << text;
      ++checked;
    }
  }
  EXPECT_GT(checked, 500u);
}

TEST(TokenizerGgufSentencePiece, TextComesBack) {
  std::mt19937 random(29);
  for (const auto& fixture : fixtures()) {
    const auto tokenizer = Tokenizer::from_gguf(vocab_of(fixture));
    for (int i = 0; i < 300; ++i) {
      const std::string text = random_text(random, 20);
      const std::string decoded = tokenizer->decode(tokenizer->encode(text, true, false), false);
      EXPECT_EQ(decoded, with_plain_spaces(text));
    }
  }
}

TEST(TokenizerGgufSentencePiece, ControlTokensOnlyWhenAsked) {
  GgufVocab vocab = vocab_of(fixtures()[0]);
  vocab.bos = 1;
  vocab.eos = 2;
  vocab.add_bos = true;
  const auto tokenizer = Tokenizer::from_gguf(vocab);
  ASSERT_EQ(vocab.tokens[1], "<s>");
  EXPECT_TRUE(tokenizer->is_special(1));
  EXPECT_EQ(tokenizer->encode("</s>", true, true), (Ids{1, 2}));
  const Ids typed = tokenizer->encode("</s><s><unk>", false, false);
  EXPECT_TRUE(std::none_of(typed.begin(), typed.end(),
                           [&](int32_t id) { return tokenizer->is_special(id); }));
  EXPECT_EQ(tokenizer->decode(typed, true), "</s><s><unk>");
  // A text that starts anew after a control token gets its own space.
  const Ids apart = tokenizer->encode("</s>the", false, true);
  Ids expected = tokenizer->encode("the", false, true);
  expected.insert(expected.begin(), 2);
  EXPECT_EQ(apart, expected);
  EXPECT_EQ(tokenizer->encode("", true, true), Ids{1});
  EXPECT_EQ(tokenizer->encode("", false, true), Ids{});
}

TEST(TokenizerGgufSentencePiece, BytesOfTokens) {
  const auto tokenizer = Tokenizer::from_gguf(vocab_of(fixtures()[0]));
  EXPECT_EQ(tokenizer->token_bytes(tokenizer->token_id("<0x0A>").value()), "\n");
  EXPECT_EQ(tokenizer->token_bytes(tokenizer->token_id("<0xFF>").value()), "\xff");
  EXPECT_EQ(tokenizer->token_bytes(tokenizer->token_id("▁").value()), " ");
  EXPECT_EQ(tokenizer->token_bytes(1), "<s>");
  EXPECT_EQ(tokenizer->decode(Ids{tokenizer->token_id("<0xFF>").value()}, false), "\uFFFD");
}

TEST(TokenizerGgufSentencePiece, AVocabularyWithoutBytesGivesUnknownOnce) {
  GgufVocab vocab;
  vocab.model = "llama";
  vocab.tokens = {"<unk>", "a", "▁"};
  vocab.scores = {0, -1, -2};
  vocab.token_types = {2, 1, 1};
  const auto tokenizer = Tokenizer::from_gguf(vocab);
  EXPECT_EQ(tokenizer->encode("axya", false, false), (Ids{2, 1, 0, 1}));
}

TEST(TokenizerGgufSentencePiece, NeedsScores) {
  GgufVocab vocab = vocab_of(fixtures()[0]);
  vocab.scores.clear();
  try {
    Tokenizer::from_gguf(vocab);
    FAIL() << "no error was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kCorruptFile);
    EXPECT_NE(std::string(error.what()).find("tokenizer.ggml.scores"), std::string::npos);
  }
}

}  // namespace
}  // namespace mlxr::testing
