#include "daemon/scheduler/batch.h"

#include <algorithm>
#include <optional>
#include <unordered_set>
#include <utility>

namespace mlxr {
namespace {

using Logits = SequenceSlice::Logits;

// A prompt's share is not cut below this: many small chunks only delay the first of the prompts.
constexpr int64_t kLeastShare = 64;
// Nor, while answers run, below this, or a prompt would never end.
constexpr int64_t kLeastChunk = 8;
constexpr double kLeastTargetShare = 0.25;  // of target_seconds
// Where more prompts wait than answers run, a longer step is the shorter wait for most: up to so
// many times target_seconds.
constexpr double kMostTargets = 2;
// Of prompts whose tokens have logprobs: a row of logits is as long as the vocabulary.
constexpr int64_t kMostScoredRows = 64;

class Composer {
 public:
  Composer(const BatchLimits& limits, const StepCost& cost) : limits_(limits), cost_(cost) {}

  void add_answer(RunningSequence& s);
  void begin_prompts(size_t count);
  void add_prompt(RunningSequence& s);
  Batch take() { return std::move(batch_); }

 private:
  void add(RunningSequence& s, const SequenceSlice& slice, bool prompt);
  bool joins_a_twin(RunningSequence& s);
  bool next_block_is_claimed(const RunningSequence& s) const;
  int64_t chunk_of(const RunningSequence& s, int64_t sharers) const;
  void claim(const RunningSequence& s, int64_t count);

  const BatchLimits& limits_;
  const StepCost& cost_;
  Batch batch_;
  bool answers_run_ = false;
  int64_t tokens_left_ = 0, prompts_left_ = 0, scored_left_ = kMostScoredRows;
  double seconds_left_ = 0;
  std::unordered_set<BlockHash, BlockHash::Hasher> claimed_;  // blocks that this step fills
};

void Composer::add(RunningSequence& s, const SequenceSlice& slice, bool prompt) {
  batch_.slices.push_back(slice);
  batch_.members.push_back({&s, prompt || !s.answering(), {}});
  batch_.load.add(static_cast<int64_t>(slice.tokens.size()), slice.begin());
  batch_.has_prompt = batch_.has_prompt || prompt;
}

void Composer::add_answer(RunningSequence& s) {
  const bool proposed = s.proposed() > 0;
  add(s,
      {.kv = s.kv(),
       .tokens = proposed ? s.with_proposed() : s.pending(),
       .logits = proposed ? Logits::kAll : Logits::kLast,
       .proposed = s.proposed(),
       .adapters = s.adapters()},
      false);
}

void Composer::begin_prompts(size_t count) {
  prompts_left_ = static_cast<int64_t>(count);
  tokens_left_ = limits_.max_tokens - static_cast<int64_t>(batch_.load.tokens);
  const auto answers = std::ranges::count_if(
      batch_.members, [](const Batch::Member& member) { return member.sequence->answering(); });
  answers_run_ = answers > 0;
  const double waiting =
      static_cast<double>(count) / static_cast<double>(std::max<int64_t>(answers, 1));
  const double target = limits_.target_seconds * std::clamp(waiting, 1.0, kMostTargets);
  seconds_left_ =
      std::max(target - cost_.seconds(batch_.load), limits_.target_seconds * kLeastTargetShare);
}

void Composer::add_prompt(RunningSequence& s) {
  s.adopt_cached();
  const int64_t sharers = prompts_left_--;
  if (joins_a_twin(s) || next_block_is_claimed(s)) return;
  if (tokens_left_ <= 0 || (answers_run_ && seconds_left_ <= 0)) return;
  const int64_t count = chunk_of(s, sharers);
  if (count == 0) return;
  StepLoad more = batch_.load;
  more.add(count, s.kv()->length());
  seconds_left_ -= cost_.seconds(more) - cost_.seconds(batch_.load);
  tokens_left_ -= count;
  scored_left_ -= s.scoring() ? count : 0;
  claim(s, count);
  const auto pending = s.pending();
  add(s,
      {.kv = s.kv(),
       .tokens = pending.first(static_cast<size_t>(count)),
       .logits = s.wants(count),
       .proposed = 0,
       .token_types = s.request().token_types,
       .adapters = s.adapters()},
      true);
}

// A prompt for an answer that this step completes for another sequence, one without proposals: its
// open block would be shared while tokens lie ahead in it.
bool Composer::joins_a_twin(RunningSequence& s) {
  if (s.is_private()) return false;
  for (size_t i = 0; i < batch_.members.size(); ++i) {
    Batch::Member& member = batch_.members[i];
    if (batch_.slices[i].logits != Logits::kLast || member.sequence->is_private()) continue;
    if (!s.same_tokens(*member.sequence)) continue;
    member.twins.push_back(&s);
    return true;
  }
  return false;
}

bool Composer::next_block_is_claimed(const RunningSequence& s) const {
  if (!s.kv()->chain()) return false;
  BlockChain chain = *s.kv()->chain();
  auto tokens = s.pending();
  const auto next = chain.append(tokens);
  return next && claimed_.contains(*next);
}

// Also the block that the chunk only begins.
void Composer::claim(const RunningSequence& s, int64_t count) {
  if (!s.kv()->chain()) return;
  BlockChain chain = *s.kv()->chain();
  auto tokens = s.pending();
  const auto beyond = tokens.size() - static_cast<size_t>(count);
  while (tokens.size() > beyond) {
    if (const auto hash = chain.append(tokens)) claimed_.insert(*hash);
  }
}

int64_t Composer::chunk_of(const RunningSequence& s, int64_t sharers) const {
  const auto pending = static_cast<int64_t>(s.pending().size());
  // In one piece, however large where there is nothing else; else it waits for a step of its own.
  if (s.in_one_piece()) return pending <= tokens_left_ || batch_.slices.empty() ? pending : 0;
  const int64_t position = s.kv()->length();
  int64_t share = std::max(kLeastShare, tokens_left_ / sharers);
  if (answers_run_) {
    const double seconds = seconds_left_ / static_cast<double>(sharers);
    share = std::clamp(cost_.tokens_within(seconds, position), kLeastChunk, share);
  }
  const int64_t most = s.scoring() ? scored_left_ : pending;
  return std::min({pending, most, share, tokens_left_, limits_.max_chunk});
}

}  // namespace

Batch compose_batch(std::span<RunningSequence* const> answers,
                    std::span<RunningSequence* const> prompts, const BatchLimits& limits,
                    const StepCost& cost) {
  Composer composer(limits, cost);
  for (RunningSequence* s : answers) composer.add_answer(*s);
  composer.begin_prompts(prompts.size());
  for (RunningSequence* s : prompts) composer.add_prompt(*s);
  return composer.take();
}

}  // namespace mlxr
