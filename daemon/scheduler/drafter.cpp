#include "daemon/scheduler/drafter.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <string>
#include <utility>

#include "daemon/scheduler/running_sequence.h"

namespace mlxr {

void check_same_vocabulary(const Model& model, const Model& draft) {
  const auto refuse = [&](const std::string& difference) {
    throw Error(ErrorCode::kInvalidArgument,
                "the draft model " + draft.path.string() + " has another vocabulary than " +
                    model.path.string() + " (" + difference +
                    "); choose one of the same family, or speculation: ngram");
  };
  if (!model.tokenizer || !draft.tokenizer) refuse("one of them has no tokenizer");
  const int32_t size = model.tokenizer->vocab_size();
  if (draft.tokenizer->vocab_size() != size) {
    refuse(std::to_string(draft.tokenizer->vocab_size()) + " tokens, not " + std::to_string(size));
  }
  for (int32_t token = 0; token < size; ++token) {
    if (model.tokenizer->token_bytes(token) != draft.tokenizer->token_bytes(token)) {
      refuse("token " + std::to_string(token) + " differs");
    }
  }
}

StepLogits Drafter::step(std::span<const SequenceSlice> slices) {
  int32_t tokens = 0;
  for (const SequenceSlice& slice : slices) tokens += static_cast<int32_t>(slice.tokens.size());
  const auto begin = engine_->now();
  StepLogits logits = engine_->step(slices);
  rounds_.record(tokens, std::chrono::duration<double>(engine_->now() - begin).count());
  return logits;
}

// The draft that a row gives, cut or padded to the model's vocabulary.
void Drafter::add_token(Draft& draft, std::span<const float> row) {
  const size_t vocab = draft.sequence->vocab();
  if (row.size() < vocab) {
    fitted_.assign(vocab, -std::numeric_limits<float>::infinity());
    std::ranges::copy(row, fitted_.begin());
    row = fitted_;
  }
  draft.tokens.push_back(draft.sequence->draft(row.first(vocab), draft.tokens));
}

// Computes what the draft has not seen of the texts, and the first token of those read to the end.
std::vector<Drafter::Draft> Drafter::read(std::span<const Want> wants) {
  std::vector<SequenceSlice> slices;
  std::vector<Draft> drafts;
  Pager& pager = engine_->pager();
  const int64_t most = pager.window().tokens > 0 ? pager.window().step_tokens : max_tokens_;
  int64_t tokens_left = max_tokens_;
  KvNeed reserved;
  for (const Want& want : wants) {
    RunningSequence& s = *want.sequence;
    const auto history = s.history();
    // Nobody computes the last token that is drafted.
    const int64_t end = s.tokens() + want.most - 1;
    std::optional<KvSequence>& kv = s.speculation()->draft_kv;
    if (end > engine_->context_length() || tokens_left <= 0) continue;
    if (!kv) kv.emplace(pager, s.request().cache_salt);
    kv->adopt(history.subspan(static_cast<size_t>(kv->length())));
    const KvNeed need = kv->to_reach(end);
    if (!need.within(pager.free() - reserved)) {
      kv.reset();
      continue;
    }
    reserved += need;
    const auto pending = history.subspan(static_cast<size_t>(kv->length()));
    const auto count = std::min({static_cast<int64_t>(pending.size()), tokens_left, most});
    const bool complete = count == static_cast<int64_t>(pending.size());
    tokens_left -= count;
    slices.push_back(
        {.kv = &*kv,
         .tokens = pending.first(static_cast<size_t>(count)),
         .logits = complete ? SequenceSlice::Logits::kLast : SequenceSlice::Logits::kNone});
    if (!complete) continue;
    drafts.push_back({.sequence = &s,
                      .end = history.size() + static_cast<size_t>(want.most),
                      .tokens = {history.begin(), history.end()}});
  }
  if (slices.empty()) return {};
  const StepLogits logits = step(slices);
  for (size_t i = 0; i < drafts.size(); ++i) {
    add_token(drafts[i], logits.row(static_cast<int32_t>(i)));
  }
  return drafts;
}

// One token more for all that want one, again and again.
void Drafter::draft(std::vector<Draft> drafts) {
  while (true) {
    std::vector<SequenceSlice> slices;
    std::vector<Draft*> round;
    for (Draft& d : drafts) {
      if (d.tokens.size() == d.end) continue;
      slices.push_back({.kv = &*d.sequence->speculation()->draft_kv,
                        .tokens = std::span(d.tokens).last(1),
                        .proposed = 1});
      round.push_back(&d);
    }
    if (slices.empty()) break;
    const StepLogits logits = step(slices);
    for (size_t i = 0; i < round.size(); ++i) {
      add_token(*round[i], logits.row(static_cast<int32_t>(i)));
    }
  }
  for (const Draft& d : drafts) {
    const auto text = static_cast<std::ptrdiff_t>(d.sequence->tokens());
    d.sequence->propose({d.tokens.begin() + text, d.tokens.end()});
  }
}

void Drafter::propose(std::span<const Want> wants) {
  try {
    draft(read(wants));
  } catch (const std::exception& error) {
    spdlog::warn("{} answers go on without speculation, the draft failed: {}", wants.size(),
                 error.what());
    for (const Want& want : wants) {
      want.sequence->speculation()->draft_failed = true;
      want.sequence->speculation()->draft_kv.reset();
    }
  }
}

void Drafter::settle(RunningSequence& sequence) {
  std::optional<KvSequence>& kv = sequence.speculation()->draft_kv;
  if (!kv || kv->ahead() == 0) return;
  const auto right = std::min(kv->ahead(), int64_t{sequence.accepted()});
  kv->settle(
      sequence.history().subspan(static_cast<size_t>(kv->length()), static_cast<size_t>(right)));
}

}  // namespace mlxr
