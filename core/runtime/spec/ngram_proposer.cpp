#include "core/runtime/spec/ngram_proposer.h"

#include <algorithm>

#include "core/base/error.h"

namespace mlxr {

NgramProposer::NgramProposer(const NgramOptions& options) : options_(options) {
  if (options.shortest < 1 || options.longest < options.shortest) {
    throw Error(ErrorCode::kInvalidArgument, "n-grams of " + std::to_string(options.shortest) +
                                                 " to " + std::to_string(options.longest) +
                                                 " tokens cannot be looked up; the lengths "
                                                 "must be at least 1 and rise");
  }
}

uint64_t NgramProposer::key_of(std::span<const int32_t> ngram) const {
  constexpr uint64_t kGolden = 0x9e3779b97f4a7c15ull;
  uint64_t key = ngram.size();
  for (const int32_t token : ngram) {
    key = (key + kGolden + static_cast<uint32_t>(token)) * 0xbf58476d1ce4e5b9ull;
    key ^= key >> 29;
  }
  return key;
}

// Indexes every n-gram that something follows.
void NgramProposer::take_in(std::span<const int32_t> history) {
  const bool grew = known_ == 0 || (known_ <= history.size() && history[known_ - 1] == last_known_);
  if (!grew) {
    after_.clear();
    known_ = 0;
  }
  for (; known_ < history.size(); ++known_) {
    for (auto n = static_cast<size_t>(options_.shortest);
         n <= static_cast<size_t>(options_.longest) && n <= known_; ++n) {
      after_[key_of(history.subspan(known_ - n, n))] = static_cast<uint32_t>(known_);
    }
  }
  if (known_ > 0) last_known_ = history[known_ - 1];
}

Proposal NgramProposer::propose(std::span<const int32_t> history, int32_t most) {
  take_in(history);
  Proposal proposal;
  for (int32_t n = options_.longest; n >= options_.shortest && most > 0; --n) {
    const auto size = static_cast<size_t>(n);
    if (history.size() <= size) continue;
    const auto end = history.last(size);
    const auto found = after_.find(key_of(end));
    if (found == after_.end()) continue;
    const size_t next = found->second;
    // Different n-grams may share a key.
    if (!std::equal(end.begin(), end.end(),
                    history.begin() + static_cast<std::ptrdiff_t>(next - size))) {
      continue;
    }
    for (size_t i = next; proposal.tokens.size() < static_cast<size_t>(most); ++i) {
      proposal.tokens.push_back(i < history.size() ? history[i]
                                                   : proposal.tokens[i - history.size()]);
    }
    break;
  }
  return proposal;
}

}  // namespace mlxr
