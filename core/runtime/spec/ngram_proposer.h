// Prompt lookup: proposes what followed the text's last few tokens when they came before. Saxena
// 2023, "Prompt Lookup Decoding". A token costs O(1) to take in, a proposal O(its tokens).
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "core/runtime/spec/proposal.h"

namespace mlxr {

struct NgramOptions {
  int32_t longest = 4;   // tokens that are looked up first
  int32_t shortest = 2;  // and last
};

class NgramProposer : public Proposer {
 public:
  explicit NgramProposer(const NgramOptions& options = {});

  // Continues the latest earlier occurrence of the longest end that has one. A continuation that
  // reaches the text's own end goes on with what it proposed, so that loops are unrolled.
  Proposal propose(std::span<const int32_t> history, int32_t most) override;

 private:
  void take_in(std::span<const int32_t> history);
  uint64_t key_of(std::span<const int32_t> ngram) const;

  NgramOptions options_;
  size_t known_ = 0;         // tokens of the history that are indexed
  int32_t last_known_ = -1;  // the last of them: a history that was cut is indexed anew
  // The place after the latest occurrence of an n-gram; the history's very end is not in here.
  std::unordered_map<uint64_t, uint32_t> after_;
};

}  // namespace mlxr
