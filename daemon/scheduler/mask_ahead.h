// Computes the masks of constrained answers while the model computes their logits, on a thread of
// its own that sleeps otherwise: a mask takes up to 0.1 ms with a large vocabulary, and a step may
// have dozens of them.
#pragma once

#include <condition_variable>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "core/runtime/constraint/answer_constraint.h"

namespace mlxr {

class MaskAhead {
 public:
  MaskAhead() = default;
  ~MaskAhead();
  MaskAhead(const MaskAhead&) = delete;
  MaskAhead& operator=(const MaskAhead&) = delete;

  // Nobody else touches these until wait() has returned. Null ones are skipped. The first call
  // starts the thread.
  void begin(std::vector<AnswerConstraint*> constraints);
  // Each has its mask now, or throws when it is asked for it.
  void wait();

 private:
  void run();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<AnswerConstraint*> work_;
  bool busy_ = false, stopping_ = false;
  std::thread thread_;
};

}  // namespace mlxr
