#include "daemon/scheduler/scheduler.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <set>
#include <thread>

#include "daemon/scheduler/running_sequence.h"
#include "daemon/scheduler/step_engine.h"

namespace mlxr {
namespace {

using SequencePtr = std::unique_ptr<RunningSequence>;

// A prompt chunk is not cut below this while several prompts share a step: smaller ones would spend
// the step on unpacking weights.
constexpr int64_t kLeastChunk = 64;

int64_t blocks_for(int64_t tokens, int64_t block_tokens) {
  return (tokens + block_tokens - 1) / block_tokens;
}

}  // namespace

// Invariants: `running` sequences hold KV, in order of arrival; `waiting` ones hold none. Only the
// scheduler's thread touches either; other threads leave requests in `arrived` and ids in
// `cancelled`.
struct Scheduler::Impl {
  std::unique_ptr<StepEngine> engine;
  SchedulerOptions options;

  mutable std::mutex mutex;
  std::condition_variable changed;  // work arrived, or all work is done
  std::deque<SequencePtr> arrived;
  std::set<RequestId> cancelled;
  bool cancel_all = false, draining = false, stopping = false, idle = true;
  RequestId next_id = 1;
  SchedulerStats stats;

  std::deque<SequencePtr> waiting;
  std::vector<SequencePtr> running;
  std::thread thread;

  void run();
  bool take_orders();
  void drop_cancelled(const std::set<RequestId>& ids, bool all);
  void admit();
  void make_room();
  std::vector<SequenceSlice> compose(std::vector<RunningSequence*>& members);
  void step();
  void publish(uint64_t steps, uint64_t prompt, uint64_t generated);
};

// Moves what other threads left here; sleeps when there is nothing to do. False: stop.
bool Scheduler::Impl::take_orders() {
  std::unique_lock lock(mutex);
  const auto something = [&] {
    return stopping || cancel_all || !arrived.empty() || !cancelled.empty() || !waiting.empty() ||
           !running.empty();
  };
  if (!something()) {
    idle = true;
    changed.notify_all();
    changed.wait(lock, something);
  }
  idle = false;
  for (SequencePtr& sequence : arrived) waiting.push_back(std::move(sequence));
  arrived.clear();
  const std::set<RequestId> ids = std::exchange(cancelled, {});
  const bool all = std::exchange(cancel_all, false) || stopping;
  const bool stop = stopping;
  lock.unlock();
  if (all || !ids.empty()) drop_cancelled(ids, all);
  return !stop;
}

void Scheduler::Impl::drop_cancelled(const std::set<RequestId>& ids, bool all) {
  const auto drop = [&](auto& sequences) {
    std::erase_if(sequences, [&](const SequencePtr& sequence) {
      if (!all && !ids.contains(sequence->id())) return false;
      sequence->finish(FinishReason::kCancelled);
      return true;
    });
  };
  drop(running);
  drop(waiting);
}

// Starts waiting requests, first come first served, while their prompts and a block of growth for
// everyone fit in what is free.
void Scheduler::Impl::admit() {
  Pager& pager = engine->pager();
  int64_t promised = 0;
  for (const SequencePtr& s : running) {
    promised += blocks_for(s->tokens() + 1, pager.block_tokens()) + 1 -
                static_cast<int64_t>(s->kv()->blocks().size());
  }
  while (!waiting.empty() && static_cast<int32_t>(running.size()) < options.max_sequences) {
    RunningSequence& next = *waiting.front();
    const int64_t needed = blocks_for(next.tokens() + 1, pager.block_tokens());
    // Alone, a sequence may use every block: the context never exceeds the arena.
    if (!running.empty() && promised + needed + 1 > pager.free_blocks()) break;
    promised += needed + 1;
    next.start(pager);
    running.push_back(std::move(waiting.front()));
    waiting.pop_front();
  }
}

// When decoding has outgrown the arena, the youngest sequences wait their turn again.
void Scheduler::Impl::make_room() {
  Pager& pager = engine->pager();
  const auto growth = [&] {
    int64_t blocks = 0;
    for (const SequencePtr& s : running) {
      const auto held = static_cast<int64_t>(s->kv()->blocks().size());
      blocks += std::max<int64_t>(0, blocks_for(s->tokens(), pager.block_tokens()) - held);
    }
    return blocks;
  };
  while (running.size() > 1 && growth() > pager.free_blocks()) {
    running.back()->preempt();
    waiting.push_front(std::move(running.back()));
    running.pop_back();
  }
}

// Every decode token, then prompt chunks that share what is left of max_batch_tokens.
std::vector<SequenceSlice> Scheduler::Impl::compose(std::vector<RunningSequence*>& members) {
  std::vector<SequenceSlice> slices;
  int64_t budget = options.max_batch_tokens, prefilling = 0;
  for (const SequencePtr& s : running) {
    if (s->prefilling()) {
      ++prefilling;
    } else if (budget > 0) {
      slices.push_back({.kv = s->kv(), .tokens = s->pending()});
      members.push_back(s.get());
      --budget;
    }
  }
  for (const SequencePtr& s : running) {
    if (!s->prefilling()) continue;
    const auto pending = static_cast<int64_t>(s->pending().size());
    const int64_t share = std::max(kLeastChunk, budget / std::max<int64_t>(1, prefilling--));
    const int64_t count = std::min({pending, share, budget});
    if (count <= 0) break;
    const bool complete = count == pending;
    slices.push_back(
        {.kv = s->kv(),
         .tokens = s->pending().first(static_cast<size_t>(count)),
         .logits = complete ? SequenceSlice::Logits::kLast : SequenceSlice::Logits::kNone});
    members.push_back(s.get());
    budget -= count;
  }
  return slices;
}

void Scheduler::Impl::step() {
  std::vector<RunningSequence*> members;
  const std::vector<SequenceSlice> slices = compose(members);
  std::set<const RunningSequence*> done;
  uint64_t prompt = 0, generated = 0;
  try {
    const StepLogits logits = engine->step(slices);
    int32_t row = 0;
    for (size_t i = 0; i < slices.size(); ++i) {
      prompt += slices[i].tokens.size() > 1 ? slices[i].tokens.size() : 0;
      if (slices[i].logits == SequenceSlice::Logits::kNone) continue;
      const auto values = logits.row(row++);
      try {
        if (members[i]->accept(values)) done.insert(members[i]);
        ++generated;
      } catch (const Error& e) {  // one sequence's sampler: the others go on
        members[i]->fail(e.what(), e.code());
        done.insert(members[i]);
      }
    }
  } catch (const std::exception& e) {
    const auto* error = dynamic_cast<const Error*>(&e);
    for (RunningSequence* member : members) {
      if (done.contains(member)) continue;
      member->fail(e.what(), error ? error->code() : ErrorCode::kInternal);
      done.insert(member);
    }
  }
  std::erase_if(running, [&](const SequencePtr& s) { return done.contains(s.get()); });
  publish(1, prompt, generated);
}

void Scheduler::Impl::publish(uint64_t steps, uint64_t prompt, uint64_t generated) {
  const std::lock_guard lock(mutex);
  stats.steps += steps;
  stats.prompt_tokens += prompt;
  stats.generated_tokens += generated;
  stats.running = static_cast<int32_t>(running.size());
  stats.waiting = static_cast<int32_t>(waiting.size() + arrived.size());
  stats.kv_blocks_used = engine->pager().total_blocks() - engine->pager().free_blocks();
}

void Scheduler::Impl::run() {
  while (take_orders()) {
    make_room();
    admit();
    if (running.empty()) {
      publish(0, 0, 0);
      continue;
    }
    step();
  }
}

Scheduler::Scheduler(std::unique_ptr<Engine> engine, const SchedulerOptions& options)
    : Scheduler(step_engine(std::move(engine)), options) {}

Scheduler::Scheduler(std::unique_ptr<StepEngine> engine, const SchedulerOptions& options)
    : impl_(std::make_unique<Impl>()) {
  impl_->engine = std::move(engine);
  impl_->options = options;
  impl_->stats.kv_blocks_total = impl_->engine->pager().total_blocks();
  impl_->thread = std::thread([impl = impl_.get()] { impl->run(); });
}

Scheduler::~Scheduler() {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->draining = impl_->stopping = true;
  }
  impl_->changed.notify_all();
  impl_->thread.join();
}

RequestId Scheduler::submit(GenerateRequest request, GenerateCallback callback) {
  Impl& self = *impl_;
  if (request.prompt.empty()) {
    throw Error(ErrorCode::kInvalidArgument, "the prompt is empty; send at least one token");
  }
  const int32_t window = context_length();
  if (static_cast<int64_t>(request.prompt.size()) >= window) {
    throw Error(ErrorCode::kContextOverflow,
                "the prompt has " + std::to_string(request.prompt.size()) +
                    " tokens and the context window holds " + std::to_string(window) +
                    ", answer included; shorten the prompt");
  }
  for (int32_t token : request.prompt) {
    if (token < 0 || token >= model().spec.vocab) {
      throw Error(ErrorCode::kInvalidArgument, "the prompt has token " + std::to_string(token) +
                                                   ", outside the vocabulary of " +
                                                   std::to_string(model().spec.vocab));
    }
  }
  std::unique_lock lock(self.mutex);
  if (self.draining) throw Error(ErrorCode::kUnavailable, "the model is being unloaded; try again");
  if (self.stats.waiting >= self.options.max_queue) {
    throw Error(ErrorCode::kUnavailable, "the queue is full (" +
                                             std::to_string(self.options.max_queue) +
                                             " requests wait); try again later");
  }
  const RequestId id = self.next_id++;
  lock.unlock();  // building a sampler and a decoder may take a while
  auto sequence = std::make_unique<RunningSequence>(id, std::move(request), std::move(callback),
                                                    model(), window);
  lock.lock();
  if (self.draining) throw Error(ErrorCode::kUnavailable, "the model is being unloaded; try again");
  self.arrived.push_back(std::move(sequence));
  ++self.stats.requests;
  ++self.stats.waiting;
  self.idle = false;
  lock.unlock();
  self.changed.notify_all();
  return id;
}

void Scheduler::cancel(RequestId id) {
  {
    const std::lock_guard lock(impl_->mutex);
    if (impl_->idle) return;
    impl_->cancelled.insert(id);
  }
  impl_->changed.notify_all();
}

void Scheduler::drain(std::chrono::milliseconds timeout) {
  Impl& self = *impl_;
  std::unique_lock lock(self.mutex);
  self.draining = true;
  const auto is_idle = [&] { return self.idle; };
  if (self.changed.wait_for(lock, timeout, is_idle)) return;
  self.cancel_all = true;
  self.changed.notify_all();
  self.changed.wait(lock, is_idle);
}

const Model& Scheduler::model() const { return impl_->engine->model(); }
int32_t Scheduler::context_length() const { return impl_->engine->context_length(); }
int64_t Scheduler::kv_bytes() const { return impl_->engine->kv_bytes(); }

SchedulerStats Scheduler::stats() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->stats;
}

}  // namespace mlxr
