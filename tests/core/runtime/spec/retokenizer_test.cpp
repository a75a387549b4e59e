// A draft with another vocabulary: what it reads is the model's text, byte for byte, and what is
// proposed is what it wrote.
#include "core/runtime/spec/retokenizer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <random>

#include "tests/core/runtime/tokenizer/other_vocab.h"
#include "tests/core/runtime/tokenizer/random_text.h"
#include "tests/core/runtime/tokenizer/sentencepiece_vocab.h"

namespace mlxr::testing {
namespace {

using Ids = std::vector<int32_t>;
using TokenizerPtr = std::shared_ptr<const Tokenizer>;

const std::string kEnglish =
    "Running water has worn the stones away, and nobody remembers the twenty-three\n\n"
    "  houses that stood here. \"Who lived in them?\" she'd asked; he didn't know.\n"
    "{\"role\": \"user\", \"content\": [1, 22, 333]}  The end.";

TokenizerPtr sentencepiece(size_t fixture, bool add_bos = false) {
  GgufVocab vocab = vocab_of(sentencepiece_fixtures()[fixture]);
  vocab.bos = 1;
  vocab.add_bos = add_bos;
  return Tokenizer::from_gguf(vocab);
}

// SentencePiece as a tokenizer.json has it: the space before all text comes from a normalizer, as
// Llama 2's, or else from a pre-tokenizer, which puts none before a space.
TokenizerPtr sentencepiece_json(bool by_normalizer) {
  nlohmann::json vocab = {{"<unk>", 0}}, merges = nlohmann::json::array();
  const auto add = [&vocab](const std::string& token) { vocab.emplace(token, vocab.size()); };
  for (int byte = 0; byte < 256; ++byte) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", byte);
    add(name);
  }
  for (char c = '!'; c <= '~'; ++c) add(std::string(1, c));
  add("\u2581");
  const std::pair<const char*, const char*> pairs[] = {
      {"\u2581", "t"}, {"h", "e"}, {"\u2581t", "he"}, {"i", "n"},           {"in", "g"},
      {"n", "ing"},    {"e", "r"}, {"\u2581", "a"},   {"\u2581", "\u2581"}, {"s", "t"},
      {"o", "u"},      {"n", "d"}, {"\u2581a", "nd"}, {"r", "u"},           {"\u2581", "h"}};
  for (const auto& [left, right] : pairs) {
    add(std::string(left) + right);
    merges.push_back({left, right});
  }
  nlohmann::json json = {{"version", "1.0"}, {"added_tokens", nlohmann::json::array()}};
  json["model"] = {{"type", "BPE"},         {"unk_token", "<unk>"}, {"fuse_unk", true},
                   {"byte_fallback", true}, {"vocab", vocab},       {"merges", merges}};
  const nlohmann::json space = {{"String", " "}}, mark = {{"String", "\u2581"}};
  if (by_normalizer) {
    json["normalizer"] = {{"type", "Sequence"},
                          {"normalizers",
                           {{{"type", "Prepend"}, {"prepend", "\u2581"}},
                            {{"type", "Replace"}, {"pattern", space}, {"content", "\u2581"}}}}};
  } else {
    json["pre_tokenizer"] = {{"type", "Metaspace"},
                             {"replacement", "\u2581"},
                             {"prepend_scheme", "always"},
                             {"split", false}};
  }
  json["decoder"] = {{"type", "Sequence"},
                     {"decoders",
                      {{{"type", "Replace"}, {"pattern", mark}, {"content", " "}},
                       {{"type", "ByteFallback"}},
                       {{"type", "Fuse"}},
                       {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}}}};
  return Tokenizer::from_json(json.dump());
}

// Byte-level with coarse and fine tokens; SentencePiece with a space before all text, and without.
const std::vector<TokenizerPtr>& all_tokenizers() {
  static const std::vector<TokenizerPtr> kAll = {
      demo_tokenizer(), other_tokenizer(3),       sentencepiece(0),
      sentencepiece(1), sentencepiece_json(true), sentencepiece_json(false)};
  return kAll;
}

void for_all_pairs(const std::function<void(const TokenizerPtr&, const TokenizerPtr&)>& test) {
  for (size_t i = 0; i < all_tokenizers().size(); ++i) {
    for (size_t j = 0; j < all_tokenizers().size(); ++j) {
      SCOPED_TRACE("model " + std::to_string(i) + ", draft " + std::to_string(j));
      if (i != j) test(all_tokenizers()[i], all_tokenizers()[j]);
    }
  }
}

std::shared_ptr<const Retokenizer> between(const TokenizerPtr& model, const TokenizerPtr& draft) {
  return std::make_shared<Retokenizer>(model, draft);
}

std::string bytes_of(const Tokenizer& tokenizer, std::span<const int32_t> tokens) {
  std::string bytes;
  for (const int32_t token : tokens) bytes += tokenizer.token_bytes(token);
  return bytes;
}

// Text without the mark of SentencePiece, which reads as a space there.
std::string random_plain_text(std::mt19937& random, int most) {
  std::string text = random_text(random, most);
  constexpr std::string_view kMark = "\u2581";
  for (size_t at; (at = text.find(kMark)) != text.npos;) text.erase(at, kMark.size());
  return text;
}

bool is_beginning(const Ids& begin, const Ids& all, size_t count) {
  return all.size() >= count &&
         std::equal(all.begin(), all.begin() + static_cast<int64_t>(count), begin.begin());
}

TEST(RetokenizedText, SaysWhatTheModelsTokensSayHoweverTheyCome) {
  std::mt19937 random(5);
  const TokenizerPtr& metaspace = all_tokenizers().back();
  for_all_pairs([&](const TokenizerPtr& model, const TokenizerPtr& draft) {
    const auto retokenizer = between(model, draft);
    for (int round = 0; round < 60; ++round) {
      const Ids all = model->encode(random_plain_text(random, 40), false, false);
      RetokenizedText text(retokenizer);
      Ids before;
      for (size_t size = 0, settled = 0; size < all.size();) {
        size = std::min(all.size(), size + 1 + random() % 5);
        const auto history = std::span(all).first(size);
        text.update(history);
        ASSERT_TRUE(is_beginning(before, text.tokens(), settled)) << "a settled token changed";
        ASSERT_GE(text.settled(), settled);
        before = text.tokens();
        settled = text.settled();
        if (!text.whole()) continue;
        // Metaspace takes a text's first space for its own: no tokens of it say that space.
        const std::string said = model->decode(history, false);
        const std::string expected = draft->decode(draft->encode(said, false, false), false);
        ASSERT_TRUE(expected == said || (" " + expected == said && draft == metaspace));
        ASSERT_EQ(draft->decode(text.tokens(), false), expected);
        ASSERT_LE(settled + 1, std::max<size_t>(text.tokens().size(), 1));
      }
      ASSERT_TRUE(text.whole() || all.empty());
    }
  });
}

TEST(RetokenizedText, IsCutAsTheWholeTextWouldBe) {
  for_all_pairs([](const TokenizerPtr& model, const TokenizerPtr& draft) {
    const Ids all = model->encode(kEnglish, false, false);
    RetokenizedText text(between(model, draft));
    size_t most_open = 0;
    for (size_t size = 1; size <= all.size(); ++size) {
      const auto history = std::span(all).first(size);
      text.update(history);
      EXPECT_EQ(text.tokens(), draft->encode(model->decode(history, false), false, false));
      most_open = std::max(most_open, text.tokens().size() - text.settled());
    }
    EXPECT_LT(most_open, 16u);
  });
}

TEST(RetokenizedText, WaitsForACharacterToBeWhole) {
  const TokenizerPtr model = demo_tokenizer();
  const Ids all = model->encode("so 👍🏽", false, false);
  ASSERT_GT(all.size(), 3u);
  RetokenizedText text(between(model, sentencepiece(0)));
  const auto begin = std::span(all).first(model->encode("so ", false, false).size() + 1);
  text.update(begin);
  EXPECT_FALSE(text.whole());
  text.update(all);
  EXPECT_TRUE(text.whole());
  EXPECT_EQ(sentencepiece(0)->decode(text.tokens(), false), "so 👍🏽");
}

TEST(RetokenizedText, TokensJoinOverWhatCameInParts) {
  const TokenizerPtr model = other_tokenizer(2), draft = demo_tokenizer();
  RetokenizedText text(between(model, draft));
  Ids history = model->encode("It was runn", false, false);
  text.update(history);
  const Ids before = text.tokens();
  for (const int32_t token : model->encode("ing away", false, false)) history.push_back(token);
  text.update(history);
  EXPECT_EQ(text.tokens(), draft->encode("It was running away", false, false));
  EXPECT_NE(before.back(), text.tokens()[before.size() - 1]);
}

TEST(RetokenizedText, ControlTokensAreTheDraftsOwnOrText) {
  const std::string chat = "<|im_start|>user\nHi there<|im_end|>\n<|im_start|>assistant\n";
  const Ids history = demo_tokenizer()->encode(chat, false, true);
  RetokenizedText same(between(demo_tokenizer(), other_tokenizer(0)));
  for (size_t size = 1; size <= history.size(); ++size) same.update(std::span(history).first(size));
  EXPECT_EQ(same.tokens(), other_tokenizer(0)->encode(chat, false, true));
  RetokenizedText spelled(between(demo_tokenizer(), sentencepiece(1)));
  spelled.update(history);
  // Before all text, it is nothing to a draft.
  EXPECT_EQ(sentencepiece(1)->decode(spelled.tokens(), false), chat.substr(12));
}

TEST(RetokenizedText, BeginsAsTheDraftWasTrainedTo) {
  const TokenizerPtr draft = sentencepiece(0, true);
  const Ids expected = draft->encode("The end", true, false);
  ASSERT_EQ(expected.front(), 1);
  Ids history = demo_tokenizer()->encode("The end", false, false);
  RetokenizedText plain(between(demo_tokenizer(), draft));
  plain.update(history);
  EXPECT_EQ(plain.tokens(), expected);
  history.insert(history.begin(), *demo_tokenizer()->token_id("<|endoftext|>"));
  RetokenizedText with_another(between(demo_tokenizer(), draft));
  with_another.update(history);
  EXPECT_EQ(with_another.tokens(), expected);
  RetokenizedText with_the_same(between(sentencepiece(1, true), draft));
  with_the_same.update(sentencepiece(1, true)->encode("The end", true, false));
  EXPECT_EQ(with_the_same.tokens(), expected);
}

TEST(RetokenizedText, TakesALongTextInParts) {
  std::string english;
  while (english.size() < 60000) english += kEnglish + "\n";
  const Ids history = demo_tokenizer()->encode(english, false, false);
  RetokenizedText text(between(demo_tokenizer(), sentencepiece(1)));
  int calls = 0;
  while (!text.whole() && calls < 100) {
    text.update(history);
    ++calls;
  }
  EXPECT_GT(calls, 2);
  EXPECT_EQ(sentencepiece(1)->decode(text.tokens(), false), english);
}

// What a draft that writes just the text proposes at every place of it.
struct Proposed {
  size_t tokens = 0, right = 0, places = 0, places_with = 0;
};
Proposed proposals_along(const TokenizerPtr& model, const TokenizerPtr& draft,
                         const std::string& english) {
  const auto retokenizer = between(model, draft);
  const Ids all = model->encode(english, false, false);
  RetokenizedText whole(retokenizer), text(retokenizer);
  whole.update(all);
  Proposed out;
  for (size_t size = 1; size < all.size(); ++size) {
    const auto history = std::span(all).first(size), rest = std::span(all).subspan(size);
    text.update(history);
    const size_t read = text.tokens().size();
    if (!text.whole() || !is_beginning(text.tokens(), whole.tokens(), read)) continue;
    // The draft's first token has a space of its own, which is not the text's.
    if (read == retokenizer->before_texts().size()) continue;
    const auto drafted = std::span(whole.tokens()).subspan(read);
    const Ids proposal =
        retokenizer->proposal(history, drafted.first(std::min<size_t>(6, drafted.size())), 4);
    EXPECT_LE(proposal.size(), 4u);
    EXPECT_TRUE(bytes_of(*model, rest).starts_with(bytes_of(*model, proposal)));
    out.tokens += proposal.size();
    out.right += static_cast<size_t>(std::ranges::mismatch(proposal, rest).in1 - proposal.begin());
    ++out.places;
    out.places_with += proposal.empty() ? 0 : 1;
  }
  return out;
}

TEST(Retokenizer, ProposesWhatTheModelWouldWrite) {
  for_all_pairs([](const TokenizerPtr& model, const TokenizerPtr& draft) {
    const Proposed all = proposals_along(model, draft, kEnglish);
    EXPECT_GT(all.places_with * 10, all.places * 9);
    EXPECT_GT(all.right * 10, all.tokens * 8);
    EXPECT_GT(all.tokens, all.places * 2);
  });
}

TEST(Retokenizer, ProposesOnlyTextThatWasDrafted) {
  std::mt19937 random(7);
  for_all_pairs([&](const TokenizerPtr& model, const TokenizerPtr& draft) {
    size_t proposed = 0;
    for (int round = 0; round < 40; ++round) {
      proposed += proposals_along(model, draft, random_plain_text(random, 30)).tokens;
    }
    EXPECT_GT(proposed, 100u);
  });
}

TEST(Retokenizer, DropsACharacterThatWasNotDraftedToItsEnd) {
  const TokenizerPtr model = sentencepiece(0), draft = demo_tokenizer();
  const auto retokenizer = between(model, draft);
  const Ids history = model->encode("We said", false, false);
  Ids drafted = draft->encode(" so", false, false);
  const size_t words = drafted.size();
  for (const int32_t token : draft->encode("👍🏽", false, false)) drafted.push_back(token);
  const Ids words_alone = retokenizer->proposal(history, std::span(drafted).first(words), 20);
  EXPECT_EQ(bytes_of(*model, words_alone), " so");
  EXPECT_EQ(retokenizer->proposal(history, std::span(drafted).first(words + 1), 20), words_alone);
  EXPECT_EQ(bytes_of(*model, retokenizer->proposal(history, drafted, 20)), " so👍🏽");
  EXPECT_EQ(retokenizer->proposal(history, std::span(drafted).subspan(words, 1), 20), Ids{});
}

TEST(Retokenizer, ProposesNothingWhereTheKnownTokensWouldBeOthers) {
  const TokenizerPtr model = demo_tokenizer(), draft = other_tokenizer(3);
  const auto retokenizer = between(model, draft);
  ASSERT_EQ(model->encode(" running", false, false).size(), 1u);
  const Ids history = model->encode("They were run", false, false);
  EXPECT_EQ(retokenizer->proposal(history, draft->encode("ning", false, false), 4), Ids{});
  EXPECT_EQ(retokenizer->proposal(history, draft->encode(" fast", false, false), 4),
            model->encode(" fast", false, false));
}

// Tokens that were drawn at random, not as their text would be cut.
TEST(Retokenizer, ProposesBehindTokensThatTheirTextWouldNotBeGiven) {
  const TokenizerPtr model = demo_tokenizer(), draft = sentencepiece(1);
  Ids history = model->encode("They we", false, false);
  for (const int32_t token : model->encode("re", false, false)) history.push_back(token);
  ASSERT_NE(history, model->encode("They were", false, false));
  EXPECT_EQ(between(model, draft)->proposal(history, draft->encode(" the", false, false), 4),
            model->encode(" the", false, false));
}

TEST(Retokenizer, ADraftedControlTokenIsTheModelsOfTheSameText) {
  const TokenizerPtr model = demo_tokenizer(), draft = other_tokenizer(3);
  const auto retokenizer = between(model, draft);
  const Ids history = model->encode("<|im_start|>assistant\nYes", false, true);
  const Ids drafted = draft->encode(" it is.<|im_end|>\nAnd", false, true);
  EXPECT_EQ(retokenizer->proposal(history, drafted, 10),
            model->encode(" it is.<|im_end|>", false, true));
  EXPECT_TRUE(retokenizer->ends(*draft->token_id("<|im_end|>")));
  // What the model does not have ends the proposal.
  const auto other = between(sentencepiece(1), draft);
  EXPECT_EQ(bytes_of(*sentencepiece(1),
                     other->proposal(sentencepiece(1)->encode("Yes", false, false), drafted, 20)),
            " it is.");
}

TEST(Retokenizer, BehindAControlTokenItsTextStandsAlone) {
  const TokenizerPtr model = demo_tokenizer(), draft = other_tokenizer(3);
  const Ids history = {*model->token_id("<|im_start|>")};
  EXPECT_EQ(between(model, draft)->proposal(history, draft->encode("user\n", false, false), 8),
            model->encode("user\n", false, false));
}

TEST(Vocabularies, DifferByTheirFirstTokenThatDiffers) {
  const auto demo = demo_tokenizer();
  EXPECT_EQ(vocabulary_difference(*demo, *demo), std::nullopt);
  EXPECT_EQ(vocabulary_difference(*demo, *Tokenizer::from_gguf(demo_gguf_vocab())), std::nullopt);
  EXPECT_EQ(vocabulary_difference(*demo, *sentencepiece(0)), "700 tokens, not 6144");
  nlohmann::json json = read_json("models/mlxr-demo/tokenizer.json");
  json["added_tokens"].back()["content"] = "</thunk>";
  EXPECT_EQ(vocabulary_difference(*demo, *Tokenizer::from_json(json.dump())), "token 6143 differs");
}

}  // namespace
}  // namespace mlxr::testing
