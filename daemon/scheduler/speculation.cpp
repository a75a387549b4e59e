#include "daemon/scheduler/speculation.h"

#include <algorithm>
#include <vector>

#include "daemon/scheduler/batch.h"
#include "daemon/scheduler/running_sequence.h"

namespace mlxr {
namespace {

// What proposals of several answers must promise together: estimates are noisy.
constexpr double kMargin = 1.03;
// Steps after which proposals that did not pay together are tried again.
constexpr int32_t kTryAgain = 64;

// What `depth` tokens behind the pending one take, beyond what that takes.
KvNeed need_of(const RunningSequence& s, int64_t depth) {
  return s.kv()->to_reserve(s.tokens() + depth) - s.kv()->to_reserve(s.tokens());
}

}  // namespace

double Speculation::drafted_seconds(int32_t depth) const {
  return drafter_ ? drafter_->seconds(drafting_) * depth : 0;
}

// How many tokens each of the answers is to propose that proposes any.
Speculation::Wants Speculation::depths(std::span<RunningSequence* const> answers, int64_t tokens,
                                       KvNeed room) {
  Wants wants;
  for (RunningSequence* s : answers) {
    if (!s->answering()) continue;
    if (!s->speculation()) s->speculation().emplace(latest_, options_);
    const SequenceSpeculation& own = *s->speculation();
    if (own.draft_failed) continue;
    // The last token that may come needs no proposal behind it.
    int64_t most = std::min({int64_t{own.controller.depth()}, s->tokens_to_come() - 1, tokens});
    while (most > 0 && !need_of(*s, most).within(room)) --most;
    if (most <= 0) continue;
    wants.push_back({s, static_cast<int32_t>(most)});
    tokens -= most;
    room = room - need_of(*s, most);
  }
  return wants;
}

// Whether the step brings more tokens a second than one without proposals. Each controller compares
// its own depths, the others' given; but where the first token more costs most (a kernel's next
// size), each may seem to gain and all together lose.
bool Speculation::pays_together(const Wants& wants, size_t answers) {
  if (answers < 2) return true;
  const auto plain = static_cast<int32_t>(answers);
  int32_t computed = plain, deepest = 0;
  double expected = plain;
  for (const Drafter::Want& want : wants) {
    computed += want.most;
    deepest = std::max(deepest, want.most);
    expected += want.sequence->speculation()->controller.expected_tokens(want.most) - 1;
  }
  const double with = costs_.seconds(computed) + drafted_seconds(deepest);
  const double without = costs_.seconds(plain);
  if (expected * without > kMargin * plain * with || without <= 0) {
    held_back_ = 0;
    return true;
  }
  held_back_ = (held_back_ + 1) % kTryAgain;
  return held_back_ == 0;
}

void Speculation::propose(std::span<RunningSequence* const> answers, int64_t tokens, KvNeed room) {
  const Wants wants = depths(answers, std::min(tokens, kMostProposed), room);
  if (drafter_) drafting_ = static_cast<int32_t>(wants.size());
  if (wants.empty() || !pays_together(wants, answers.size())) return;
  if (drafter_) {
    drafter_->propose(wants);
    return;
  }
  for (const Drafter::Want& want : wants) {
    RunningSequence& s = *want.sequence;
    s.propose(s.speculation()->ngrams.propose(s.history(), want.most).tokens);
  }
}

void Speculation::learn(const Batch& batch, const std::set<RunningSequence*>& done,
                        double seconds) {
  int32_t computed = 0;  // tokens of answers
  double expected = 0;   // tokens that they were to bring
  const auto share = [](RunningSequence& s, int32_t proposed) {
    return proposed > 0 ? s.speculation()->controller.expected_tokens(proposed) : 1.0;
  };
  for (size_t i = 0; i < batch.members.size(); ++i) {
    if (batch.members[i].prompt) continue;
    const int32_t proposed = batch.slices[i].proposed;
    computed += 1 + proposed;
    expected += share(*batch.members[i].sequence, proposed);
  }
  if (!batch.has_prompt) costs_.record(computed, seconds);
  for (size_t i = 0; i < batch.members.size(); ++i) {
    RunningSequence& s = *batch.members[i].sequence;
    if (batch.members[i].prompt || done.contains(&s) || !s.speculation()) continue;
    if (drafter_) drafter_->settle(s);
    const int32_t proposed = batch.slices[i].proposed, rest = computed - proposed;
    const SharedStep step{.seconds =
                              [this, rest](int32_t depth) {
                                return costs_.seconds(rest + depth) + drafted_seconds(depth);
                              },
                          .others = expected - share(s, proposed)};
    // What a draft took time for and could not propose is a token that was wrong.
    const bool in_vain = std::exchange(s.speculation()->drafted_in_vain, false);
    s.speculation()->controller.record(std::max(proposed, in_vain ? 1 : 0), s.accepted(), step);
  }
}

}  // namespace mlxr
