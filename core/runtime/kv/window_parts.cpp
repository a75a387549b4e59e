#include "core/runtime/kv/window_parts.h"

#include <string>

#include "core/base/error.h"
#include "core/runtime/kv/invariant.h"

namespace mlxr {

WindowParts::WindowParts(const KvWindow& window, int32_t blocks)
    : parts_(window.parts), idle_(parts_ > 0 ? blocks : 0) {
  if (parts_ == 0) return;
  entries_.resize(static_cast<size_t>(blocks));
  empty_.reserve(static_cast<size_t>(parts_));
  for (int32_t part = parts_ - 1; part >= 0; --part) empty_.push_back(part);
}

void WindowParts::assign(BlockId block) {
  if (empty_.empty()) {
    if (idle_.size() == 0) {
      throw Error(ErrorCode::kOutOfMemory,
                  "all " + std::to_string(parts_) + " places for KV blocks' windows are in use");
    }
    drop(idle_.oldest());
  }
  at(block) = {.part = empty_.back(), .holders = 1};
  empty_.pop_back();
}

void WindowParts::hold(BlockId block) {
  if (at(block).holders++ == 0) idle_.remove(block);
}

void WindowParts::let_go(BlockId block) {
  if (--at(block).holders == 0) idle_.push(block);
}

void WindowParts::drop(BlockId block) {
  if (!has(block)) return;
  idle_.remove(block);
  empty_.push_back(at(block).part);
  at(block) = {};
}

void WindowParts::merge(BlockId from, BlockId to) {
  if (has(to)) {
    hold(to);
    let_go(from);
    drop(from);
  } else {
    at(to) = at(from);
    at(from) = {};
  }
}

void WindowParts::check(std::span<const int32_t> users) const {
  const auto must = [](bool holds, const char* invariant, size_t block) {
    must_hold(holds, "WindowParts", invariant, block);
  };
  if (entries_.empty()) return;
  std::vector<bool> taken(static_cast<size_t>(parts_), false);
  for (const int32_t part : empty_) taken[static_cast<size_t>(part)] = true;
  size_t held = 0;
  for (size_t i = 0; i < entries_.size(); ++i) {
    const Entry& entry = entries_[i];
    must(entry.holders >= 0 && entry.holders <= users[i], "more hold its part than have it", i);
    must(entry.part >= 0 || entry.holders == 0, "it is held and has no part", i);
    if (entry.part < 0) continue;
    must(!taken[static_cast<size_t>(entry.part)], "its part is another's, too", i);
    taken[static_cast<size_t>(entry.part)] = true;
    held += entry.holders > 0;
  }
  int32_t idle = 0;
  for (BlockId block = idle_.oldest(); block != kNoBlock; block = idle_.after(block)) {
    must(++idle <= idle_.size(), "the list of idle parts is longer than it should be",
         index_of(block));
    must(has(block) && at(block).holders == 0, "in the list of idle parts", index_of(block));
  }
  must(idle == idle_.size() && held + empty_.size() + static_cast<size_t>(idle) == taken.size(),
       "parts were lost", 0);
}

}  // namespace mlxr
