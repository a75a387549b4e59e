#include "core/runtime/kv/disk_index.h"

#include <algorithm>

namespace mlxr {

DiskIndex::DiskIndex(std::vector<std::optional<StoredBlock>> slots) : slots_(std::move(slots)) {
  nodes_.reserve(slots_.size());
  for (size_t i = slots_.size(); i-- > 0;) {  // the first free slot is the last of free_
    std::optional<StoredBlock>& block = slots_[i];
    const auto slot = static_cast<SlotId>(static_cast<int32_t>(i));
    if (!block) {
      free_.push_back(slot);
      continue;
    }
    Node& node = nodes_[block->hash];
    if (node.slot != kNone) {
      slots_[index_of(node.slot)].reset();
      free_.push_back(node.slot);
    }
    node.slot = slot;
  }
  for (const std::optional<StoredBlock>& block : slots_) {
    if (block && block->parent) ++nodes_[*block->parent].children;
  }
  std::vector<Leaf> leaves;  // sorted first: a set of what is in order takes linear time
  for (size_t i = 0; i < slots_.size(); ++i) {
    if (!slots_[i] || nodes_[slots_[i]->hash].children > 0) continue;
    leaves.emplace_back(slots_[i]->tick, static_cast<SlotId>(static_cast<int32_t>(i)));
  }
  std::ranges::sort(leaves);
  leaves_ = {leaves.begin(), leaves.end()};
}

std::optional<SlotId> DiskIndex::find(const BlockHash& hash) const {
  const auto found = nodes_.find(hash);
  if (found == nodes_.end() || found->second.slot == kNone) return std::nullopt;
  return found->second.slot;
}

std::optional<SlotId> DiskIndex::free_slot() const {
  return free_.empty() ? std::nullopt : std::optional(free_.back());
}

SlotId DiskIndex::add_slot() {
  const auto slot = static_cast<SlotId>(slots());
  slots_.emplace_back();
  free_.push_back(slot);
  return slot;
}

void DiskIndex::put(SlotId slot, const StoredBlock& block) {
  free_.erase(std::ranges::find(free_.rbegin(), free_.rend(), slot).base() - 1);
  slots_[index_of(slot)] = block;
  Node& node = nodes_[block.hash];
  node.slot = slot;
  if (node.children == 0) leaves_.emplace(block.tick, slot);
  if (!block.parent) return;
  Node& parent = nodes_[*block.parent];
  if (parent.children++ == 0 && parent.slot != kNone) {
    leaves_.erase({slots_[index_of(parent.slot)]->tick, parent.slot});
  }
}

void DiskIndex::touch(SlotId slot, uint64_t tick) {
  StoredBlock& block = *slots_[index_of(slot)];
  if (tick <= block.tick) return;
  if (leaves_.erase({block.tick, slot}) > 0) leaves_.emplace(tick, slot);
  block.tick = tick;
}

void DiskIndex::remove(SlotId slot) {
  const StoredBlock block = *slots_[index_of(slot)];
  leaves_.erase({block.tick, slot});
  slots_[index_of(slot)].reset();
  free_.push_back(slot);
  const auto node = nodes_.find(block.hash);
  node->second.slot = kNone;
  if (node->second.children == 0) nodes_.erase(node);
  if (!block.parent) return;
  const auto parent = nodes_.find(*block.parent);
  if (--parent->second.children > 0) return;
  const SlotId above = parent->second.slot;
  if (above == kNone) {
    nodes_.erase(parent);
    return;
  }
  touch(above, block.tick);
  leaves_.emplace(slots_[index_of(above)]->tick, above);
}

std::optional<SlotId> DiskIndex::oldest_leaf() const {
  return leaves_.empty() ? std::nullopt : std::optional(leaves_.begin()->second);
}

void DiskIndex::cut(int32_t count) {
  slots_.resize(static_cast<size_t>(count));
  std::erase_if(free_, [&](SlotId slot) { return static_cast<int32_t>(slot) >= count; });
}

}  // namespace mlxr
