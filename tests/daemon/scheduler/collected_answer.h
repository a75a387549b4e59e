// Collects the events of one request, for a test to wait for.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "daemon/scheduler/scheduler.h"

namespace mlxr::testing {

class Answer {
 public:
  GenerateCallback callback() {
    return [this](GenerateEvent&& event) {
      const std::lock_guard lock(mutex_);
      EXPECT_FALSE(done_) << "an event after the final one";
      text_ += event.text;
      tokens_.insert(tokens_.end(), event.tokens.begin(), event.tokens.end());
      if (event.final) {
        done_ = true;
        last_ = std::move(event);
        changed_.notify_all();
      }
    };
  }
  const GenerateEvent& wait() {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, std::chrono::seconds(60), [&] { return done_; }));
    return last_;
  }
  std::string text() {
    const std::lock_guard lock(mutex_);
    return text_;
  }
  std::vector<int32_t> tokens() {
    const std::lock_guard lock(mutex_);
    return tokens_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool done_ = false;
  std::string text_;
  std::vector<int32_t> tokens_;
  GenerateEvent last_;
};

// All that an owner hears, in a form that compares.
struct Heard {
  std::string text;
  std::vector<int32_t> tokens;
  std::vector<std::tuple<std::string, float, std::vector<TokenLogprob>>> logprobs;
  FinishReason reason{};
  int32_t cached = 0, generated = 0;
  friend bool operator==(const Heard&, const Heard&) = default;
};

inline Heard ask(Scheduler& scheduler, const GenerateRequest& request) {
  Heard heard;
  Answer answer;
  scheduler.submit(request, [&, forward = answer.callback()](GenerateEvent&& event) {
    for (const GeneratedLogprob& l : event.logprobs) {
      heard.logprobs.emplace_back(l.bytes, l.sampled.logprob, l.sampled.top);
    }
    forward(std::move(event));
  });
  const GenerateEvent& last = answer.wait();
  EXPECT_NE(last.reason, FinishReason::kError) << last.error;
  heard.text = answer.text();
  heard.tokens = answer.tokens();
  heard.reason = last.reason;
  heard.cached = last.usage.cached_tokens;
  heard.generated = last.usage.generated_tokens;
  return heard;
}

inline GenerateRequest greedy_request(std::vector<int32_t> prompt, int32_t max_tokens) {
  GenerateRequest r;
  r.prompt = std::move(prompt);
  r.max_tokens = max_tokens;
  r.sampling.temperature = 0;
  return r;
}

// What a shift leaves of a full window that began with a prompt of this size.
inline std::vector<int32_t> shifted(const std::vector<int32_t>& window, size_t prompt,
                                    ContextShift shift) {
  const size_t keep =
      shift.keep < 0 ? prompt : std::min<size_t>(static_cast<size_t>(shift.keep), prompt);
  const size_t begin = std::min(keep, window.size() - 2);
  std::vector<int32_t> left(window.begin(), window.begin() + static_cast<std::ptrdiff_t>(begin));
  left.insert(left.end(),
              window.begin() + static_cast<std::ptrdiff_t>(begin + (window.size() - begin) / 2),
              window.end());
  return left;
}

inline void wait_for_free_blocks(Scheduler& scheduler) {
  // One that waits for the disk runs without a block.
  const auto busy = [](const SchedulerStats& s) { return s.kv_blocks_used + s.running > 0; };
  for (int i = 0; i < 500 && busy(scheduler.stats()); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  EXPECT_EQ(scheduler.stats().kv_blocks_used, 0);
  EXPECT_EQ(scheduler.stats().kv_window_parts_used, 0);
  EXPECT_EQ(scheduler.stats().running, 0);
}

}  // namespace mlxr::testing
