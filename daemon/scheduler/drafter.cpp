#include "daemon/scheduler/drafter.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <string>
#include <utility>

#include "daemon/scheduler/running_sequence.h"

namespace mlxr {

namespace {

// Tokens that a sequence may have read when its proposal's time counts as a usual one.
constexpr size_t kUsualReading = 16;

}  // namespace

Drafter::Drafter(std::unique_ptr<StepEngine> engine, const Model& model, int64_t max_tokens)
    : engine_(std::move(engine)), max_tokens_(max_tokens) {
  const Model& draft = engine_->model();
  if (!model.tokenizer || !draft.tokenizer) {
    throw Error(ErrorCode::kInvalidArgument,
                (draft.tokenizer ? "the model " + model.path.string()
                                 : "the draft model " + draft.path.string()) +
                    " has no tokenizer, so that no draft can propose text; choose another draft "
                    "model, or speculation: ngram");
  }
  const auto difference = vocabulary_difference(*model.tokenizer, *draft.tokenizer);
  if (!difference) return;
  retokenizer_ = std::make_shared<Retokenizer>(model.tokenizer, draft.tokenizer);
  spdlog::info("the draft model {} has another vocabulary than {} ({}): text is tokenised for each",
               draft.path.string(), model.path.string(), *difference);
}

StepLogits Drafter::step(std::span<const SequenceSlice> slices) {
  int32_t tokens = 0;
  for (const SequenceSlice& slice : slices) tokens += static_cast<int32_t>(slice.tokens.size());
  const auto begin = engine_->now();
  StepLogits logits = engine_->step(slices);
  rounds_.record(tokens, std::chrono::duration<double>(engine_->now() - begin).count());
  return logits;
}

Drafter::Text Drafter::text_of(RunningSequence& sequence) const {
  const auto history = sequence.history();
  if (!retokenizer_) return {.tokens = history, .settled = history.size()};
  auto& text = sequence.speculation()->draft_text;
  if (!text) text.emplace(retokenizer_);
  text->update(history);
  return {.tokens = text->tokens(), .settled = text->settled(), .whole = text->whole()};
}

// The draft that a row gives, cut or padded to the model's vocabulary.
void Drafter::add_token(Draft& draft, std::span<const float> row) {
  if (retokenizer_) return add_best_token(draft, row);
  const size_t vocab = draft.sequence->vocab();
  if (row.size() < vocab) {
    fitted_.assign(vocab, -std::numeric_limits<float>::infinity());
    std::ranges::copy(row, fitted_.begin());
    row = fitted_;
  }
  draft.tokens.push_back(draft.sequence->draft(row.first(vocab), draft.tokens));
}

// The sequence draws its own tokens: it has no way to draw from another vocabulary.
void Drafter::add_best_token(Draft& draft, std::span<const float> row) const {
  const auto known = static_cast<size_t>(retokenizer_->draft()->vocab_size());
  const auto tokens = row.first(std::min(row.size(), known));
  draft.tokens.push_back(static_cast<int32_t>(std::ranges::max_element(tokens) - tokens.begin()));
  if (retokenizer_->ends(draft.tokens.back())) draft.end = draft.tokens.size();
}

// The next of a text that the draft has not seen, as far as there is room. Tokens that are not
// settled are stored ahead, as drafted ones are.
std::optional<SequenceSlice> Drafter::next_slice(const Want& want, const Text& text, Room& room) {
  // Nobody computes the last token that is drafted.
  const int64_t end = static_cast<int64_t>(text.tokens.size()) + want.most - 1;
  if (end > engine_->context_length() || room.tokens <= 0) return std::nullopt;
  std::optional<KvSequence>& kv = want.sequence->speculation()->draft_kv;
  if (!kv) kv.emplace(engine_->pager(), want.sequence->request().cache_salt);
  const auto unread = [&](size_t size) {
    const auto stored = static_cast<size_t>(kv->length());
    return text.tokens.first(size).subspan(std::min(stored, size));
  };
  kv->adopt(unread(std::min(text.settled + 1, text.tokens.size())));
  const KvNeed need = kv->to_reach(end);
  if (!need.within(engine_->pager().free() - room.reserved)) {
    kv.reset();
    return std::nullopt;
  }
  const auto pending = unread(text.tokens.size());
  const KvWindow& window = engine_->pager().window();
  const auto most = static_cast<size_t>(
      window.tokens > 0 ? std::min<int64_t>(room.tokens, window.step_tokens) : room.tokens);
  const size_t settled = unread(text.settled).size();
  const bool complete = text.whole && pending.size() <= most;
  const size_t count = complete ? pending.size() : std::min(settled, most);
  if (count == 0) return std::nullopt;
  room.reserved += need;
  room.tokens -= static_cast<int64_t>(count);
  return SequenceSlice{
      .kv = &*kv,
      .tokens = pending.first(count),
      .logits = complete ? SequenceSlice::Logits::kLast : SequenceSlice::Logits::kNone,
      .proposed = complete ? static_cast<int32_t>(count - settled) : 0};
}

// Computes what the draft has not seen of the texts, and the first token of those read to the end.
std::vector<Drafter::Draft> Drafter::read(std::span<const Want> wants) {
  std::vector<SequenceSlice> slices;
  std::vector<Draft> drafts;
  Room room{.tokens = max_tokens_};
  read_much_ = false;
  for (const Want& want : wants) {
    const Text text = text_of(*want.sequence);
    const auto slice = next_slice(want, text, room);
    if (!slice) continue;
    slices.push_back(*slice);
    read_much_ = read_much_ || slice->tokens.size() > kUsualReading;
    if (slice->logits == SequenceSlice::Logits::kNone) continue;
    drafts.push_back({.sequence = want.sequence,
                      .most = want.most,
                      .begin = text.tokens.size(),
                      .end = text.tokens.size() + static_cast<size_t>(want.most),
                      .tokens = {text.tokens.begin(), text.tokens.end()}});
  }
  if (slices.empty()) return {};
  const StepLogits logits = step(slices);
  for (size_t i = 0; i < drafts.size(); ++i) {
    add_token(drafts[i], logits.row(static_cast<int32_t>(i)));
  }
  return drafts;
}

// One token more for all that want one, again and again.
void Drafter::draft(std::vector<Draft>& drafts) {
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
}

void Drafter::propose(const Draft& draft) const {
  if (retokenizer_) return propose_again_tokenised(draft);
  const auto begin = draft.tokens.begin() + static_cast<std::ptrdiff_t>(draft.begin);
  draft.sequence->propose({begin, draft.tokens.end()});
}

void Drafter::propose_again_tokenised(const Draft& draft) const {
  RunningSequence& s = *draft.sequence;
  SequenceSpeculation& own = *s.speculation();
  const auto tokens = std::span(draft.tokens);
  own.draft_ahead.assign(tokens.begin() + own.draft_kv->length(), tokens.end());
  s.propose(retokenizer_->proposal(s.history(), tokens.subspan(draft.begin), draft.most));
  own.drafted_in_vain = s.proposed() == 0;
}

void Drafter::propose(std::span<const Want> wants) {
  try {
    const auto begin = engine_->now();
    std::vector<Draft> drafts = read(wants);
    draft(drafts);
    int32_t most = 1;
    for (const Draft& d : drafts) {
      propose(d);
      most = std::max(most, d.most);
    }
    if (!retokenizer_ || drafts.empty() || read_much_) return;
    const double taken = std::chrono::duration<double>(engine_->now() - begin).count();
    proposals_.record(static_cast<int32_t>(drafts.size()), taken / most);
  } catch (const std::exception& error) {
    spdlog::warn("{} answers go on without speculation, the draft failed: {}", wants.size(),
                 error.what());
    for (const Want& want : wants) {
      want.sequence->speculation()->draft_failed = true;
      want.sequence->speculation()->draft_kv.reset();
    }
  }
}

void Drafter::settle(RunningSequence& sequence) const {
  SequenceSpeculation& own = *sequence.speculation();
  std::optional<KvSequence>& kv = own.draft_kv;
  if (!kv || kv->ahead() == 0) return;
  const Text text = text_of(sequence);
  const auto stored = static_cast<size_t>(kv->length());
  const auto next = text.tokens.first(text.settled).subspan(std::min(stored, text.settled));
  int64_t right = sequence.accepted();
  if (retokenizer_) right = std::ranges::mismatch(next, own.draft_ahead).in1 - next.begin();
  kv->settle(next.first(static_cast<size_t>(std::min(right, kv->ahead()))));
}

}  // namespace mlxr
