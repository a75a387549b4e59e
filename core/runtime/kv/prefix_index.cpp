#include "core/runtime/kv/prefix_index.h"

#include "core/runtime/kv/invariant.h"

namespace mlxr {

PrefixIndex::PrefixIndex(int32_t blocks) : entries_(static_cast<size_t>(blocks)), parked_(blocks) {
  by_hash_.reserve(entries_.size());
}

std::optional<BlockId> PrefixIndex::find(const BlockHash& hash) const {
  const auto found = by_hash_.find(hash);
  return found == by_hash_.end() ? std::nullopt : std::optional(found->second);
}

std::optional<BlockName> PrefixIndex::name_of(BlockId block) const {
  const Entry& entry = entries_[index_of(block)];
  if (!entry.published) return std::nullopt;
  if (entry.parent == kNoBlock) return BlockName{entry.hash, std::nullopt};
  return BlockName{entry.hash, entries_[index_of(entry.parent)].hash};
}

void PrefixIndex::publish(BlockId block, const BlockHash& hash, std::optional<BlockId> parent) {
  Entry& entry = at(block);
  entry = {.hash = hash, .parent = parent.value_or(kNoBlock), .published = true};
  if (parent) ++at(*parent).children;
  by_hash_.emplace(hash, block);
}

std::optional<BlockId> PrefixIndex::evict() {
  const BlockId block = parked_.oldest();
  if (block == kNoBlock) return std::nullopt;
  parked_.remove(block);
  Entry& entry = at(block);
  if (entry.parent != kNoBlock) --at(entry.parent).children;
  by_hash_.erase(entry.hash);
  entry = {};
  return block;
}

void PrefixIndex::check(std::span<const int32_t> users) const {
  const auto must = [](bool holds, const char* invariant, size_t block) {
    must_hold(holds, "PrefixIndex", invariant, block);
  };
  size_t published = 0;
  std::vector<int32_t> children(entries_.size(), 0);
  for (size_t i = 0; i < entries_.size(); ++i) {
    const Entry& entry = entries_[i];
    const BlockId block{static_cast<int32_t>(i)};
    if (!entry.published) {
      must(!parked_.contains(block), "parked though not published", i);
      continue;
    }
    ++published;
    must(find(entry.hash) == block, "its hash names another block", i);
    must(parked_.contains(block) == (users[i] == 0), "parked and in use, or neither", i);
    if (entry.parent == kNoBlock) continue;
    const size_t parent = index_of(entry.parent);
    must(entries_[parent].published, "its parent is not published", i);
    must(users[parent] >= users[i], "it has more users than its parent", i);
    ++children[parent];
  }
  must(published == by_hash_.size(), "the index names a block that is not published", 0);
  int32_t parked = 0;
  std::vector<int32_t> older_children(entries_.size(), 0);
  for (BlockId block = parked_.oldest(); block != kNoBlock; block = parked_.after(block)) {
    const size_t i = index_of(block);
    const Entry& entry = entries_[i];
    must(++parked <= parked_.size(), "the eviction order is longer than it should be", i);
    must(parked_.contains(block), "in the eviction order though not parked", i);
    must(older_children[i] == children[i], "it would be evicted before its child", i);
    must(entry.children == children[i], "it miscounts its children", i);
    if (entry.parent != kNoBlock) ++older_children[index_of(entry.parent)];
  }
  must(parked == parked_.size(), "the eviction order is shorter than it should be", 0);
}

}  // namespace mlxr
