// Speculation is lossless: with guesses the text is the plain one, token for token; with drawn
// proposals its distribution is the model's own.
#include "core/runtime/spec/verify.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <random>

#include "core/runtime/sampler/random.h"
#include "core/runtime/spec/draft_token.h"
#include "core/runtime/spec/ngram_proposer.h"
#include "tests/core/runtime/tokenizer/demo_vocab.h"

namespace mlxr::testing {
namespace {

using Ids = std::vector<int32_t>;

// Logits that depend on the last two tokens.
std::vector<float> logits_after(std::span<const int32_t> tokens, int32_t vocab, uint32_t model) {
  uint32_t seed = model;
  const size_t first = tokens.size() > 2 ? tokens.size() - 2 : 0;
  for (size_t i = first; i < tokens.size(); ++i) {
    seed = seed * 31 + static_cast<uint32_t>(tokens[i]);
  }
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, 1.5f);
  std::vector<float> x(static_cast<size_t>(vocab));
  for (float& v : x) v = normal(random);
  return x;
}

// The rows that a model would compute for a proposal.
class Rows {
 public:
  Rows(const Ids& history, const Proposal& proposal, int32_t vocab, uint32_t model) {
    Ids tokens = history;
    rows_.push_back(logits_after(tokens, vocab, model));
    for (const int32_t token : proposal.tokens) {
      tokens.push_back(token);
      rows_.push_back(logits_after(tokens, vocab, model));
    }
  }
  std::span<const float> operator()(size_t i) const { return rows_.at(i); }

 private:
  std::vector<std::vector<float>> rows_;
};

class FakeDraft : public Proposer {
 public:
  FakeDraft(int32_t vocab, uint32_t model, Sampler& sampler)
      : vocab_(vocab), model_(model), sampler_(sampler) {}
  Proposal propose(std::span<const int32_t> history, int32_t most) override {
    Ids tokens(history.begin(), history.end());
    Proposal proposal;
    for (int32_t i = 0; i < most; ++i) {
      tokens.push_back(draft_token(sampler_, logits_after(tokens, vocab_, model_), tokens));
      proposal.tokens.push_back(tokens.back());
    }
    return proposal;
  }

 private:
  int32_t vocab_;
  uint32_t model_;
  Sampler& sampler_;
};

Ids plain_text(const SamplingParams& params, Ids tokens, int32_t vocab, int count) {
  Sampler sampler(params, vocab);
  for (int i = 0; i < count; ++i) {
    const auto position = static_cast<int64_t>(tokens.size());
    tokens.push_back(sampler.sample(logits_after(tokens, vocab, 1), tokens, position).token);
  }
  return tokens;
}

Ids speculated_text(const SamplingParams& params, Ids tokens, int32_t vocab, int count,
                    Proposer& proposer, Sampler& sampler, int& accepted) {
  const size_t end = tokens.size() + static_cast<size_t>(count);
  while (tokens.size() < end) {
    const Proposal proposal = proposer.propose(tokens, 4);
    const Rows rows(tokens, proposal, vocab, 1);
    const Verified verified = verify(sampler, tokens, proposal, rows);
    EXPECT_EQ(verified.tokens.size(), static_cast<size_t>(verified.accepted) + 1);
    accepted += verified.accepted;
  }
  tokens.resize(end);
  return tokens;
}

TEST(Verify, GuessesLeaveEveryTokenAsItIsWithoutThem) {
  constexpr int32_t kVocab = 12;
  const Ids prompt = {1, 2, 3};
  std::vector<SamplingParams> all(6);
  for (SamplingParams& p : all) p.seed = 7;
  all[0].temperature = 0;
  all[2].mirostat = 2;
  all[2].mirostat_tau = 2;
  all[3].repeat_penalty = 1.3f;
  all[3].dry_multiplier = 0.5f;
  all[4].xtc_probability = 0.5f;
  all[5].top_k = 0;
  all[5].typical_p = 0.7f;
  for (const SamplingParams& p : all) {
    const Ids plain = plain_text(p, prompt, kVocab, 200);
    int from_ngrams = 0, from_draft = 0, from_twin = 0;
    Sampler sampler(p, kVocab);
    NgramProposer ngrams({.longest = 3, .shortest = 1});
    EXPECT_EQ(speculated_text(p, prompt, kVocab, 200, ngrams, sampler, from_ngrams), plain);
    Sampler with_draft(p, kVocab);
    FakeDraft other(kVocab, 2, with_draft);
    EXPECT_EQ(speculated_text(p, prompt, kVocab, 200, other, with_draft, from_draft), plain);
    Sampler with_twin(p, kVocab);
    FakeDraft twin(kVocab, 1, with_twin);
    EXPECT_EQ(speculated_text(p, prompt, kVocab, 200, twin, with_twin, from_twin), plain);
    EXPECT_GT(from_ngrams, 5);
    // A draft that is the model itself is right; mirostat's state lags while it drafts.
    if (p.mirostat == 0) {
      EXPECT_GE(from_twin, 160);
    }
    EXPECT_LT(from_draft, from_twin);
  }
}

// ---- the rejection rule ----

double chi_square(const std::map<Ids, int>& counts, const std::map<Ids, double>& expected,
                  int draws, int& cells) {
  double chi = 0;
  for (const auto& [tokens, p] : expected) {
    if (p * draws < 8) continue;
    ++cells;
    const auto found = counts.find(tokens);
    const double count = found == counts.end() ? 0 : found->second;
    chi += (count - p * draws) * (count - p * draws) / (p * draws);
  }
  return chi;
}

Distribution of_model(const SamplingParams& p, std::span<const int32_t> tokens, int32_t vocab,
                      uint32_t model) {
  SamplingParams seeded = p;
  seeded.seed = 1;
  Sampler sampler(seeded, vocab);
  return sampler.distribution(logits_after(tokens, vocab, model), tokens, 0);
}

TEST(Verify, DrawnProposalsLeaveTheDistributionAsItIs) {
  constexpr int32_t kVocab = 6;
  constexpr int kDraws = 40000;
  const Ids history = {4, 2};
  std::vector<SamplingParams> all(3);
  all[0].top_k = 0, all[0].top_p = 1, all[0].min_p = 0, all[0].temperature = 1;
  all[1].top_k = 3, all[1].temperature = 1.4f;
  all[2].top_p = 0.9f, all[2].repeat_penalty = 1.5f;
  for (const SamplingParams& params : all) {
    // The distribution of the next three tokens of the model alone.
    std::map<Ids, double> expected;
    const auto expand = [&](auto&& self, const Ids& tokens, double p) -> void {
      if (tokens.size() == history.size() + 3) {
        expected[{tokens.begin() + 2, tokens.end()}] = p;
        return;
      }
      const Distribution d = of_model(params, tokens, kVocab, 1);
      for (size_t i = 0; i < d.candidates.size(); ++i) {
        Ids next = tokens;
        next.push_back(d.candidates[i].token);
        self(self, next, p * d.probabilities[i]);
      }
    };
    expand(expand, history, 1.0);
    std::map<Ids, int> counts;
    int accepted = 0;
    for (int i = 0; i < kDraws; ++i) {
      SamplingParams p = params;
      p.seed = static_cast<uint64_t>(i) * 7919;
      Sampler sampler(p, kVocab);
      Ids tokens = history;
      while (tokens.size() < history.size() + 3) {
        Proposal proposal;
        Ids drafted = tokens;
        for (int n = 0; n < 2; ++n) {
          Distribution q = of_model(params, drafted, kVocab, 2);
          const auto position = static_cast<int64_t>(drafted.size());
          drafted.push_back(q.draw(uniform(*p.seed, position, RandomStream::kDraft)));
          proposal.tokens.push_back(drafted.back());
          proposal.drawn_from.push_back(std::move(q));
        }
        const Rows rows(tokens, proposal, kVocab, 1);
        const Verified verified = verify(sampler, tokens, proposal, rows);
        accepted += verified.accepted;
      }
      tokens.resize(history.size() + 3);
      ++counts[{tokens.begin() + 2, tokens.end()}];
    }
    int cells = 0;
    const double chi = chi_square(counts, expected, kDraws, cells);
    EXPECT_GT(cells, 6);
    // Five standard deviations above the mean of the chi-square distribution.
    EXPECT_LT(chi, cells + 5 * std::sqrt(2.0 * cells) + 5);
    for (const auto& [tokens, count] : counts) EXPECT_TRUE(expected.contains(tokens));
    EXPECT_GT(accepted, kDraws / 10);
  }
}

TEST(Verify, GreedyWithADrawnProposalIsGreedy) {
  constexpr int32_t kVocab = 9;
  SamplingParams p;
  p.temperature = 0;
  p.seed = 3;
  const Ids plain = plain_text(p, {1}, kVocab, 60);
  SamplingParams hot;
  hot.temperature = 1;
  Ids tokens = {1};
  Sampler sampler(p, kVocab);
  while (tokens.size() < plain.size()) {
    Proposal proposal;
    Distribution q = of_model(hot, tokens, kVocab, 1);
    proposal.tokens.push_back(
        q.draw(uniform(3, static_cast<int64_t>(tokens.size()), RandomStream::kDraft)));
    proposal.drawn_from.push_back(std::move(q));
    const Rows rows(tokens, proposal, kVocab, 1);
    verify(sampler, tokens, proposal, rows);
  }
  tokens.resize(plain.size());
  EXPECT_EQ(tokens, plain);
}

TEST(Verify, AConstraintMasksEachPosition) {
  ConstraintCompiler compiler(demo_tokenizer(), {0, 2});
  const auto constraint = compiler.compile({ConstraintSpec::Kind::kRegex, "(ab|cd){12}"});
  const int32_t vocab = demo_tokenizer()->vocab_size();
  SamplingParams p;
  p.temperature = 1.5f;
  p.seed = 4;
  const auto run = [&](int32_t most) {
    Sampler sampler(p, vocab);
    NgramProposer proposer({.longest = 3, .shortest = 1});
    AnswerConstraint answer(constraint.get(), vocab, {}, {});
    Ids tokens = {300};
    int accepted = 0;
    while (!answer.complete()) {
      Proposal proposal = proposer.propose(tokens, most);
      proposal.tokens.resize(answer.count_allowed(proposal.tokens));
      const Rows rows(tokens, proposal, vocab, 1);
      const Verified verified = verify(sampler, tokens, proposal, rows, {.constraint = &answer});
      accepted += verified.accepted;
    }
    return std::pair(tokens, accepted);
  };
  const auto [plain, none] = run(0);
  const auto [text, accepted] = run(4);
  EXPECT_EQ(none, 0);
  EXPECT_EQ(text, plain);
  EXPECT_GT(accepted, 0);
}

TEST(Verify, EndsWhereTheTextEnds) {
  constexpr int32_t kVocab = 12;
  SamplingParams p;
  p.temperature = 0;
  const Ids plain = plain_text(p, {1}, kVocab, 4);
  Sampler sampler(p, kVocab);
  const Proposal proposal{.tokens = {plain[1], plain[2], plain[3]}, .drawn_from = {}};
  const Rows rows({1}, proposal, kVocab, 1);
  const int32_t end = plain[2] == plain[1] ? plain[1] : plain[2];
  const size_t count = plain[2] == plain[1] ? 1 : 2;
  Ids tokens = {1}, heard;
  const Verified verified =
      verify(sampler, tokens, proposal, rows, {.ends = [&](const SampledToken& sampled) {
               heard.push_back(sampled.token);
               return sampled.token == end;
             }});
  EXPECT_EQ(heard, Ids(plain.begin() + 1, plain.begin() + 1 + static_cast<std::ptrdiff_t>(count)));
  EXPECT_TRUE(std::equal(tokens.begin(), tokens.end(), plain.begin()));
  EXPECT_EQ(tokens.size(), count + 1);
  EXPECT_EQ(verified.tokens.size(), count);
  EXPECT_EQ(verified.accepted, static_cast<int32_t>(count));
}

}  // namespace
}  // namespace mlxr::testing
