// What a scheduler counts, as plain data for whoever shows it.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "core/kernels/primitives/kernel_times.h"

namespace mlxr {

// How often something took how long.
struct DurationHistogram {
  // Upper bounds of the buckets but the last, which has none; seconds. From a small model's step to
  // the longest prompt that one waits for on a CPU.
  static constexpr std::array<double, 18> kBounds = {
      0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500};
  std::array<uint64_t, kBounds.size() + 1> counts{};
  double sum = 0;  // seconds

  void add(double seconds, uint64_t times = 1) {
    const auto bucket = std::ranges::lower_bound(kBounds, seconds) - kBounds.begin();
    counts[static_cast<size_t>(bucket)] += times;
    sum += seconds * static_cast<double>(times);
  }
  void add(const DurationHistogram& more) {
    for (size_t i = 0; i < counts.size(); ++i) counts[i] += more.counts[i];
    sum += more.sum;
  }
};

struct SchedulerStats {
  // Now.
  int32_t running = 0, waiting = 0;
  int32_t kv_blocks_used = 0;    // by running sequences
  int32_t kv_blocks_cached = 0;  // by nobody, but findable
  int32_t kv_blocks_total = 0;
  // Of layers with a sliding window: places in the window of a running sequence, and all there are.
  int32_t kv_window_parts_used = 0, kv_window_parts_total = 0;
  int64_t kv_disk_blocks = 0, kv_disk_bytes = 0;  // kept on disk
  // Since the model was loaded.
  uint64_t steps = 0, requests = 0;
  // Of prompts, each token once: computed, and not computed because its KV was found.
  uint64_t prompt_tokens = 0, prefix_hit_tokens = 0;
  uint64_t recomputed_tokens = 0;  // of preempted and shifted sequences
  uint64_t generated_tokens = 0;
  uint64_t proposed_tokens = 0;      // computed before it was known whether they are right
  uint64_t accepted_tokens = 0;      // of those: they were
  uint64_t kv_evictions = 0;         // blocks
  uint64_t kv_blocks_persisted = 0;  // written to disk
  uint64_t kv_blocks_restored = 0;   // read back, and not computed
  uint64_t kv_blocks_dropped = 0;    // not written: the disk was too slow, or failed
  uint64_t kv_blocks_damaged = 0;    // on disk
  uint64_t kv_disk_evictions = 0;    // blocks on disk that made room for others
  uint64_t preemptions = 0, timeouts = 0, cancelled = 0;
  uint64_t context_shifts = 0;  // of answers that filled the window and went on
  DurationHistogram step_seconds;
  DurationHistogram queue_seconds;        // from a request's arrival until it gets its place
  DurationHistogram first_token_seconds;  // from its arrival until its first token
  // Between the tokens of an answer; those that come in one step share the time since the last.
  DurationHistogram token_seconds;
  DurationHistogram request_seconds;  // from its arrival until its answer is complete
  KernelTimes kernels;                // of steps

  // Adds what `more` has counted since its model was loaded.
  void add(const SchedulerStats& more) {
    steps += more.steps;
    requests += more.requests;
    prompt_tokens += more.prompt_tokens;
    prefix_hit_tokens += more.prefix_hit_tokens;
    recomputed_tokens += more.recomputed_tokens;
    generated_tokens += more.generated_tokens;
    proposed_tokens += more.proposed_tokens;
    accepted_tokens += more.accepted_tokens;
    kv_evictions += more.kv_evictions;
    kv_blocks_persisted += more.kv_blocks_persisted;
    kv_blocks_restored += more.kv_blocks_restored;
    kv_blocks_dropped += more.kv_blocks_dropped;
    kv_blocks_damaged += more.kv_blocks_damaged;
    kv_disk_evictions += more.kv_disk_evictions;
    preemptions += more.preemptions;
    timeouts += more.timeouts;
    cancelled += more.cancelled;
    context_shifts += more.context_shifts;
    step_seconds.add(more.step_seconds);
    queue_seconds.add(more.queue_seconds);
    first_token_seconds.add(more.first_token_seconds);
    token_seconds.add(more.token_seconds);
    request_seconds.add(more.request_seconds);
    kernels.add(more.kernels);
  }
  // Adds what `more`, of another copy of the model, is now. Both use the same disk.
  void add_now(const SchedulerStats& more) {
    running += more.running;
    waiting += more.waiting;
    kv_blocks_used += more.kv_blocks_used;
    kv_blocks_cached += more.kv_blocks_cached;
    kv_blocks_total += more.kv_blocks_total;
    kv_window_parts_used += more.kv_window_parts_used;
    kv_window_parts_total += more.kv_window_parts_total;
    kv_disk_blocks = std::max(kv_disk_blocks, more.kv_disk_blocks);
    kv_disk_bytes = std::max(kv_disk_bytes, more.kv_disk_bytes);
  }
};

}  // namespace mlxr
