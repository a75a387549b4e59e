// The text of a stream of tokens: whole characters only, and the same text as at once.
#include <gtest/gtest.h>

#include <random>

#include "core/runtime/tokenizer/tokenizer.h"
#include "tests/core/runtime/tokenizer/demo_vocab.h"
#include "tests/core/runtime/tokenizer/random_text.h"

namespace mlxr::testing {
namespace {

bool is_valid_utf8(const std::string& text) {
  try {
    nlohmann::json(text).dump();  // nlohmann refuses invalid UTF-8
    return true;
  } catch (const nlohmann::json::type_error&) {
    return false;
  }
}

void expect_stream_equals_decode(const std::shared_ptr<const Tokenizer>& tokenizer,
                                 const std::vector<int32_t>& ids) {
  for (const bool skip_special : {false, true}) {
    StreamDecoder decoder(tokenizer, skip_special);
    std::string text;
    for (const int32_t id : ids) {
      const std::string piece = decoder.push(id);
      ASSERT_TRUE(is_valid_utf8(piece));
      text += piece;
    }
    text += decoder.flush();
    ASSERT_EQ(text, tokenizer->decode(ids, skip_special));
  }
}

std::shared_ptr<const Tokenizer> spm_tokenizer() {
  GgufVocab vocab;
  vocab.model = "llama";
  const auto add = [&vocab](const std::string& token, float score, int32_t type) {
    vocab.tokens.push_back(token);
    vocab.scores.push_back(score);
    vocab.token_types.push_back(type);
  };
  add("<unk>", 0, 2);
  add("<s>", 0, 3);
  add("</s>", 0, 3);
  for (int byte = 0; byte < 256; ++byte) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", byte);
    add(name, 0, 6);
  }
  float score = 0;
  for (const char* token : {"▁a", "▁", "a", "b", "▁▁", "日", "ab"}) add(token, score -= 1, 1);
  return Tokenizer::from_gguf(vocab);
}

TEST(StreamDecoder, EqualsDecodeForRandomIds) {
  std::mt19937 random(17);
  for (const auto& tokenizer : {demo_tokenizer(), spm_tokenizer()}) {
    const auto size = static_cast<uint32_t>(tokenizer->vocab_size());
    for (int i = 0; i < 1500; ++i) {
      std::vector<int32_t> ids(random() % 30);
      // Small ids are single bytes more often than not: broken characters of every kind.
      for (int32_t& id : ids) {
        id = static_cast<int32_t>(random() % (random() % 2 == 0 ? size + 2 : std::min(size, 262u)));
      }
      expect_stream_equals_decode(tokenizer, ids);
    }
  }
}

TEST(StreamDecoder, EqualsDecodeForText) {
  std::mt19937 random(19);
  for (const auto& tokenizer : {demo_tokenizer(), spm_tokenizer()}) {
    for (int i = 0; i < 500; ++i) {
      expect_stream_equals_decode(tokenizer,
                                  tokenizer->encode(random_text(random, 20), true, true));
    }
  }
}

TEST(StreamDecoder, HoldsACharacterBackUntilItIsWhole) {
  const auto tokenizer = spm_tokenizer();
  const auto byte = [&](const char* name) { return tokenizer->token_id(name).value(); };
  StreamDecoder decoder(tokenizer, false);
  EXPECT_EQ(decoder.push(byte("<0xF0>")), "");
  EXPECT_EQ(decoder.push(byte("<0x9F>")), "");
  EXPECT_EQ(decoder.push(byte("<0x91>")), "");
  EXPECT_EQ(decoder.push(byte("<0x8D>")), "👍");
  EXPECT_EQ(decoder.push(byte("<0xE6>")), "");
  EXPECT_EQ(decoder.push(byte("a")), "\uFFFDa");
  EXPECT_EQ(decoder.push(byte("<0xE6>")), "");
  EXPECT_EQ(decoder.flush(), "\uFFFD");
  EXPECT_EQ(decoder.flush(), "");
}

TEST(StreamDecoder, DropsTheSpaceThatTheVocabularyPutsBeforeAText) {
  const auto tokenizer = spm_tokenizer();
  const std::vector<int32_t> ids = tokenizer->encode("a a", false, false);
  EXPECT_EQ(tokenizer->decode(ids, false), "a a");
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("  a", false, false), false), "  a");
  StreamDecoder decoder(tokenizer, false);
  EXPECT_EQ(decoder.push(tokenizer->token_id("▁a").value()), "a");
  EXPECT_EQ(decoder.push(tokenizer->token_id("▁a").value()), " a");
}

}  // namespace
}  // namespace mlxr::testing
