#include "core/runtime/kv/block_queue.h"

namespace mlxr {

void BlockQueue::push(BlockId block) {
  link(block) = {.older = youngest_, .queued = true};
  (youngest_ == kNoBlock ? oldest_ : link(youngest_).younger) = block;
  youngest_ = block;
  ++size_;
}

void BlockQueue::remove(BlockId block) {
  const Link old = link(block);
  (old.older == kNoBlock ? oldest_ : link(old.older).younger) = old.younger;
  (old.younger == kNoBlock ? youngest_ : link(old.younger).older) = old.older;
  link(block) = {};
  --size_;
}

}  // namespace mlxr
