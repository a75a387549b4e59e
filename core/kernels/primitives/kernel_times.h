// Where the time of steps goes, kernel by kernel.
#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace mlxr {

// Time and calls of each primitive since it was made. Not thread-safe: it belongs to the thread
// that steps. Two clock readings a primitive cost some 50 ns, of steps of milliseconds.
class KernelTimes {
 public:
  struct Entry {
    const char* name = nullptr;  // a string literal
    int64_t calls = 0;
    std::chrono::nanoseconds time{0};
  };

  void add(const char* name, std::chrono::nanoseconds time) {
    Entry& entry = find(name);
    ++entry.calls;
    entry.time += time;
  }
  std::span<const Entry> entries() const { return entries_; }
  void add(const KernelTimes& more) {
    for (const Entry& entry : more.entries_) {
      Entry& own = find(entry.name);
      own.calls += entry.calls;
      own.time += entry.time;
    }
  }
  // What was added since this was the copy `before`.
  KernelTimes since(const KernelTimes& before) const {
    KernelTimes out = *this;
    for (const Entry& entry : before.entries_) {
      Entry& own = out.find(entry.name);
      own.calls -= entry.calls;
      own.time -= entry.time;
    }
    return out;
  }
  std::chrono::nanoseconds total() const {
    std::chrono::nanoseconds sum{0};
    for (const Entry& entry : entries_) sum += entry.time;
    return sum;
  }

 private:
  // A step has about ten kernels: a walk over them is cheaper than a hash.
  Entry& find(const char* name) {
    for (Entry& entry : entries_) {
      if (entry.name == name || std::string_view(entry.name) == name) return entry;
    }
    entries_.push_back({.name = name});
    return entries_.back();
  }

  std::vector<Entry> entries_;
};

}  // namespace mlxr
