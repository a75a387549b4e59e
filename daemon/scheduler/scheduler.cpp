#include "daemon/scheduler/scheduler.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <set>
#include <thread>

#include "daemon/scheduler/answer_rate.h"
#include "daemon/scheduler/batch.h"
#include "daemon/scheduler/fair_queue.h"
#include "daemon/scheduler/kv_persistence.h"
#include "daemon/scheduler/mask_ahead.h"
#include "daemon/scheduler/request_check.h"
#include "daemon/scheduler/seconds.h"
#include "daemon/scheduler/step_engine.h"
#include "daemon/scheduler/step_record.h"

namespace mlxr {
namespace {

using Clock = std::chrono::steady_clock;
using SequencePtr = std::unique_ptr<RunningSequence>;

// Tokens of an answer that admission keeps room for; an answer that outgrows them may have to make
// room for others and be computed again.
constexpr int64_t kAnswerReserve = 128;

// Of the thread, while all sequences wait for the disk and one of them has a deadline.
constexpr std::chrono::milliseconds kShortestNap{1}, kLongestNap{1000};

}  // namespace

// Invariants: `running` sequences hold KV; `waiting` ones hold none. Only the scheduler's thread
// touches either; other threads leave requests in `arrived` and ids in `cancelled`.
struct Scheduler::Impl {
  std::unique_ptr<StepEngine> engine;
  SchedulerOptions options;
  std::optional<Speculation> speculation;  // sequences hold KV of its engine, too

  mutable std::mutex mutex;
  std::condition_variable changed;  // work arrived, or all work is done
  std::vector<SequencePtr> arrived;
  std::set<RequestId> cancelled;
  bool cancel_all = false, draining = false, stopping = false, idle = true;
  bool disk_moved = false;  // something was read, or may be written again
  RequestId next_id = 1;
  SchedulerStats stats;
  AnswerRate answer_rate;

  // The scheduler's thread's own.
  FairQueue waiting;
  std::vector<SequencePtr> running;
  StepCost cost;
  SchedulerStats counted;  // since the last publish()
  std::optional<StepRecord> record;
  Clock::time_point next_deadline = Clock::time_point::max();
  bool stalled = false;  // all that runs waits for the disk
  std::optional<KvPersistence> persistence;
  MaskAhead masks;
  std::thread thread;

  void run();
  bool take_orders();
  void sleep(std::unique_lock<std::mutex>& lock);
  void land();
  void enqueue(std::vector<SequencePtr> sequences);
  void drop_cancelled(const std::set<RequestId>& ids, bool all);
  void drop_late();
  std::vector<SequencePtr> take_if(const std::function<bool(const RunningSequence&)>& chosen);
  void admit();
  bool give_way(int32_t priority);
  void preempt(size_t index);
  size_t last_in_rank() const;
  KvNeed kv_to_come(const RunningSequence& s) const;
  KvNeed growth() const;
  void make_room();
  Batch compose();
  StepLogits compute(const Batch& batch);
  void step();
  void deliver(const Batch& batch, const StepLogits& logits, std::set<RunningSequence*>& done);
  void accept(RunningSequence& s, const StepLogits& logits, int32_t first_row,
              std::set<RunningSequence*>& done);
  bool score(RunningSequence& s, const StepLogits& logits, int32_t first_row, int32_t rows,
             std::set<RunningSequence*>& done);
  void shift(RunningSequence& s);
  void pool(RunningSequence& s, const StepLogits& logits, int32_t first_row, int32_t rows,
            std::set<RunningSequence*>& done);
  void turn();
  void give_up(const std::exception& error);
  void publish();
};

// Returns when there is something to do.
void Scheduler::Impl::sleep(std::unique_lock<std::mutex>& lock) {
  const bool work = waiting.size() > 0 || !running.empty();
  const bool copies = persistence && persistence->can_write();
  const auto something = [&] {
    return stopping || cancel_all || !arrived.empty() || !cancelled.empty() || disk_moved ||
           copies || (work && !stalled);
  };
  if (something()) return;
  if (work) {
    if (next_deadline == Clock::time_point::max()) return changed.wait(lock, something);
    const Clock::duration left = next_deadline - engine->now();  // its time is not ours
    changed.wait_for(lock, std::clamp<Clock::duration>(left, kShortestNap, kLongestNap), something);
    return;
  }
  idle = true;
  answer_rate.idle();
  changed.notify_all();
  changed.wait(lock, something);
}

// Moves what other threads left here; sleeps when there is nothing to do. False: stop.
bool Scheduler::Impl::take_orders() {
  std::unique_lock lock(mutex);
  sleep(lock);
  idle = false;
  disk_moved = false;
  std::vector<SequencePtr> sequences = std::exchange(arrived, {});
  const std::set<RequestId> ids = std::exchange(cancelled, {});
  const bool all = std::exchange(cancel_all, false) || stopping;
  const bool stop = stopping;
  lock.unlock();
  enqueue(std::move(sequences));
  if (all || !ids.empty()) drop_cancelled(ids, all);
  return !stop;
}

void Scheduler::Impl::enqueue(std::vector<SequencePtr> sequences) {
  for (SequencePtr& sequence : sequences) {
    const auto timeout = sequence->request().timeout;
    if (timeout) {
      sequence->set_deadline(engine->now() + *timeout - sequence->request().waited);
      next_deadline = std::min(next_deadline, *sequence->deadline());
    }
    record->arrived(*sequence);
    waiting.push(std::move(sequence));
  }
}

// Takes sequences out, wherever they are.
std::vector<SequencePtr> Scheduler::Impl::take_if(
    const std::function<bool(const RunningSequence&)>& chosen) {
  std::vector<SequencePtr> taken = waiting.take_if(chosen);
  for (SequencePtr& sequence : running) {
    if (chosen(*sequence)) taken.push_back(std::move(sequence));
  }
  std::erase(running, nullptr);
  for (const SequencePtr& sequence : taken) waiting.leave(sequence->request().client);
  return taken;
}

void Scheduler::Impl::drop_cancelled(const std::set<RequestId>& ids, bool all) {
  const auto dropped =
      take_if([&](const RunningSequence& sequence) { return all || ids.contains(sequence.id()); });
  counted.cancelled += dropped.size();
  for (const SequencePtr& sequence : dropped) {
    sequence->finish(FinishReason::kCancelled);
    record->ended(*sequence, counted);
  }
}

void Scheduler::Impl::drop_late() {
  const auto now = engine->now();
  if (now < next_deadline) return;
  next_deadline = Clock::time_point::max();
  const auto late = take_if([&](const RunningSequence& sequence) {
    const auto deadline = sequence.deadline();
    if (!deadline || *deadline <= now) return deadline.has_value();
    next_deadline = std::min(next_deadline, *deadline);
    return false;
  });
  counted.timeouts += late.size();
  for (const SequencePtr& sequence : late) {
    sequence->fail("the request took longer than its timeout of " +
                       std::to_string(sequence->request().timeout->count()) +
                       " ms; allow more time, or ask again when the server is less busy",
                   ErrorCode::kTimeout);
    record->ended(*sequence, counted);
  }
}

KvNeed Scheduler::Impl::kv_to_come(const RunningSequence& s) const {
  return s.kv()->to_reach(s.tokens() + std::min(kAnswerReserve, s.tokens_to_come()));
}

// Starts waiting requests while the rest of their prompts and some growth for everyone fit in what
// is free. Who does not fit holds up those behind: a stream of small requests never starves a large
// one.
void Scheduler::Impl::admit() {
  Pager& pager = engine->pager();
  // A step has room for every answer.
  const auto most = static_cast<size_t>(std::min(options.max_sequences, options.max_batch_tokens));
  while (RunningSequence* next = waiting.best()) {
    bool fits = running.size() < most;
    if (fits) {
      next->start(pager);  // counts the cached blocks as used
      KvNeed promised = kv_to_come(*next);
      for (const SequencePtr& s : running) promised += kv_to_come(*s);
      // Alone, a sequence may use every block: the context never exceeds the arena.
      fits = running.empty() || promised.within(pager.free());
      if (fits) {
        record->placed(*next, counted);
        if (persistence) persistence->started(*next);
        running.push_back(waiting.pop());
      } else {
        next->preempt();
      }
    }
    if (!fits && !give_way(next->request().priority)) return;
  }
}

// The sequence that has to wait when not all can run: lowest priority, then youngest.
size_t Scheduler::Impl::last_in_rank() const {
  const auto last = std::ranges::max_element(running, {}, [](const SequencePtr& s) {
    return std::pair(-int64_t{s->request().priority}, s->id());
  });
  return static_cast<size_t>(last - running.begin());
}

void Scheduler::Impl::preempt(size_t index) {
  const auto victim = running.begin() + static_cast<std::ptrdiff_t>(index);
  (*victim)->preempt();
  record->preempted(**victim);
  waiting.put_back(std::move(*victim));
  running.erase(victim);
  ++counted.preemptions;
}

// Makes a running sequence of lower priority wait. False when there is none.
bool Scheduler::Impl::give_way(int32_t priority) {
  if (running.empty()) return false;
  const size_t last = last_in_rank();
  if (running[last]->request().priority >= priority) return false;
  preempt(last);
  return true;
}

// What the tokens of running sequences take that are not computed yet.
KvNeed Scheduler::Impl::growth() const {
  KvNeed need;
  for (const SequencePtr& s : running) need += s->kv()->to_reach(s->tokens());
  return need;
}

// When decoding has outgrown the arena, the last in rank wait their turn again.
void Scheduler::Impl::make_room() {
  while (running.size() > 1 && !growth().within(engine->pager().free())) preempt(last_in_rank());
}

// Sequences get what the disk has read for them.
void Scheduler::Impl::land() {
  const int64_t blocks = persistence->land(running);
  counted.kv_blocks_restored += static_cast<uint64_t>(blocks);
}

Batch Scheduler::Impl::compose() {
  std::vector<RunningSequence*> answers, prompts;
  for (const SequencePtr& s : running) {
    if (!s->restoring()) (s->prefilling() ? prompts : answers).push_back(s.get());
  }
  std::ranges::stable_sort(prompts, {}, [&](const RunningSequence* s) {
    return std::tuple(-int64_t{s->request().priority}, waiting.served(s->request().client),
                      s->id());
  });
  if (speculation) {
    const int64_t room = options.max_batch_tokens - static_cast<int64_t>(answers.size());
    speculation->propose(answers, prompts.empty() ? room : room / 2,
                         engine->pager().free() - growth());
  }
  const KvWindow& window = engine->pager().window();
  const BatchLimits limits{
      .max_tokens = options.max_batch_tokens,
      .max_chunk = window.tokens > 0 ? window.step_tokens : options.max_batch_tokens,
      .target_seconds = options.target_latency_ms / 1e3};
  return compose_batch(answers, prompts, limits, cost);
}

// The model, and beside it the masks of those who will choose a token.
StepLogits Scheduler::Impl::compute(const Batch& batch) {
  std::vector<AnswerConstraint*> constraints;
  for (size_t i = 0; i < batch.slices.size(); ++i) {
    if (batch.slices[i].logits == SequenceSlice::Logits::kNone) continue;
    constraints.push_back(batch.members[i].sequence->constraint());
    for (RunningSequence* twin : batch.members[i].twins) constraints.push_back(twin->constraint());
  }
  struct Ahead {
    MaskAhead& masks;
    ~Ahead() { masks.wait(); }  // also when the engine throws
  } const ahead{masks};
  masks.begin(std::move(constraints));
  return engine->step(batch.slices);
}

void Scheduler::Impl::step() {
  const Batch batch = compose();
  std::set<RunningSequence*> done;
  try {
    const auto began = Clock::now();
    const auto begin = engine->now();
    const StepLogits logits = compute(batch);
    const double taken = seconds_between(begin, engine->now());
    record->computed(batch, began, Clock::now());
    cost.measured(batch.load, batch.has_prompt, taken);
    counted.step_seconds.add(taken);
    deliver(batch, logits, done);
    if (speculation) speculation->learn(batch, done, seconds_between(begin, engine->now()));
  } catch (const std::exception& e) {
    const auto* error = dynamic_cast<const Error*>(&e);
    for (const Batch::Member& member : batch.members) {
      if (!done.insert(member.sequence).second) continue;
      member.sequence->fail(e.what(), error ? error->code() : ErrorCode::kInternal);
    }
  }
  ++counted.steps;
  for (RunningSequence* s : done) {
    record->ended(*s, counted);
    waiting.leave(s->request().client);
  }
  std::erase_if(running, [&](const SequencePtr& s) { return done.contains(s.get()); });
  if (!done.empty()) {
    const std::lock_guard lock(mutex);
    for (size_t i = 0; i < done.size(); ++i) answer_rate.answered(engine->now());
  }
}

void Scheduler::Impl::deliver(const Batch& batch, const StepLogits& logits,
                              std::set<RunningSequence*>& done) {
  using Logits = SequenceSlice::Logits;
  int32_t row = 0, state_row = 0;
  for (size_t i = 0; i < batch.slices.size(); ++i) {
    const Batch::Member& member = batch.members[i];
    const auto computed = static_cast<int64_t>(batch.slices[i].tokens.size());
    if (member.prompt) {
      const int64_t first_time = member.sequence->note_computed(computed);
      counted.prompt_tokens += static_cast<uint64_t>(first_time);
      counted.recomputed_tokens += static_cast<uint64_t>(computed - first_time);
    }
    waiting.charge(member.sequence->request().client, computed);
    const Logits asked = batch.slices[i].logits;
    if (asked == Logits::kNone) continue;
    if (asked == Logits::kLastState || asked == Logits::kAllStates) {
      const int32_t rows = asked == Logits::kLastState ? 1 : static_cast<int32_t>(computed);
      pool(*member.sequence, logits, state_row, rows, done);
      state_row += rows;
      continue;
    }
    int32_t first = row;
    if (asked == Logits::kAll && batch.slices[i].proposed == 0) {
      const auto rows = static_cast<int32_t>(computed);
      row += rows;
      if (!score(*member.sequence, logits, first, rows, done)) continue;
      first = row - 1;
    } else {
      row += 1 + batch.slices[i].proposed;
    }
    // All twins before any is accepted: an answer that is complete gives its KV back.
    for (RunningSequence* twin : member.twins) twin->take_twin(*member.sequence);
    accept(*member.sequence, logits, first, done);
    for (RunningSequence* twin : member.twins) accept(*twin, logits, first, done);
  }
}

void Scheduler::Impl::accept(RunningSequence& s, const StepLogits& logits, int32_t first_row,
                             std::set<RunningSequence*>& done) {
  const int32_t proposed = s.proposed(), before = s.generated();
  const bool first = !s.answering();
  const auto begin = Clock::now();
  try {
    const auto row = [&](size_t i) { return logits.row(first_row + static_cast<int32_t>(i)); };
    const bool over = s.accept(row);
    if (over) done.insert(&s);
    counted.proposed_tokens += static_cast<uint64_t>(proposed);
    counted.accepted_tokens += static_cast<uint64_t>(proposed > 0 ? s.accepted() : 0);
    counted.generated_tokens += static_cast<uint64_t>(s.generated() - before);
    if (first) counted.prefix_hit_tokens += static_cast<uint64_t>(s.cached_tokens());
    record->accepted(s, begin, s.generated() - before, first, counted);
    if (!over && s.window_is_full()) shift(s);
  } catch (const Error& e) {  // one sequence's sampler: the others go on
    s.fail(e.what(), e.code());
    done.insert(&s);
  }
}

// The prompt's last `rows` computed tokens have these logits. Whether the answer begins.
bool Scheduler::Impl::score(RunningSequence& s, const StepLogits& logits, int32_t first_row,
                            int32_t rows, std::set<RunningSequence*>& done) {
  try {
    s.score(rows, [&](int32_t i) { return logits.row(first_row + i); });
    return s.kv()->length() == s.tokens();
  } catch (const Error& e) {
    s.fail(e.what(), e.code());
    done.insert(&s);
    return false;
  }
}

// The sequence keeps its place; what is left of it is read again in chunks, as any prompt. Where
// that takes more blocks than it gave back, because others share those, make_room() sees to it.
void Scheduler::Impl::shift(RunningSequence& s) {
  const int64_t before = s.tokens();
  s.shift(engine->pager());
  ++counted.context_shifts;
  record->shifted(s, before - s.tokens());
  spdlog::info("request id={} shifted: {} of {} tokens dropped, the answer has {}",
               s.request().name, before - s.tokens(), before, s.generated());
}

// The sequence's last `rows` computed tokens have these states.
void Scheduler::Impl::pool(RunningSequence& s, const StepLogits& logits, int32_t first_row,
                           int32_t rows, std::set<RunningSequence*>& done) {
  const auto begin = Clock::now();
  const auto state = [&](int32_t i) { return logits.state(first_row + i); };
  if (!s.pool(rows, state)) return;
  done.insert(&s);
  record->accepted(s, begin, 0, false, counted);
}

// Shows what happened since the last call to other threads.
void Scheduler::Impl::publish() {
  const Pager& pager = engine->pager();
  const std::lock_guard lock(mutex);
  stats.add(std::exchange(counted, {}));
  stats.running = static_cast<int32_t>(running.size());
  stats.waiting = static_cast<int32_t>(waiting.size() + arrived.size());
  stats.kv_blocks_used = pager.total_blocks() - pager.free_blocks();
  stats.kv_blocks_cached = pager.cached_blocks();
  stats.kv_window_parts_used = pager.window().parts - static_cast<int32_t>(pager.free().parts);
  stats.kv_evictions = pager.evictions();
  if (const KernelTimes* kernels = engine->kernel_times()) stats.kernels = *kernels;
}

void Scheduler::Impl::turn() {
  drop_late();
  if (persistence) land();
  make_room();
  admit();
  if (persistence) persistence->plan(running);
  stalled = std::ranges::all_of(running, [](const SequencePtr& s) { return s->restoring(); });
  if (!stalled) step();
  if (persistence) persistence->write_some();
}

// What failed belongs to no sequence that could be named, so all that run end, and the next turn
// begins with a clean slate. Where none runs, those that wait end: the same would fail again.
void Scheduler::Impl::give_up(const std::exception& error) {
  const auto* known = dynamic_cast<const Error*>(&error);
  const bool none_runs = running.empty();
  const auto ended = take_if([&](const RunningSequence& s) { return none_runs || s.kv(); });
  spdlog::error("a step failed, and {} requests with it: {}", ended.size(), error.what());
  for (const SequencePtr& sequence : ended) {
    sequence->fail(error.what(), known ? known->code() : ErrorCode::kInternal);
    record->ended(*sequence, counted);
  }
}

void Scheduler::Impl::run() {
  while (take_orders()) {
    try {
      turn();
    } catch (const std::exception& error) {
      give_up(error);
    }
    record->flush();
    publish();
  }
  record->flush();  // those that were cancelled at the end
}

Scheduler::Scheduler(std::unique_ptr<Engine> engine, const SchedulerOptions& options,
                     std::unique_ptr<Engine> draft, std::unique_ptr<KvDisk> disk)
    : Scheduler(step_engine(std::move(engine)), options,
                draft ? step_engine(std::move(draft)) : nullptr, std::move(disk)) {}

Scheduler::Scheduler(std::unique_ptr<StepEngine> engine, const SchedulerOptions& options,
                     std::unique_ptr<StepEngine> draft, std::unique_ptr<KvDisk> disk)
    : impl_(std::make_unique<Impl>()) {
  impl_->engine = std::move(engine);
  impl_->options = options;
  impl_->record.emplace(options.trace, options.name);
  if (options.speculation.mode != SpeculationMode::kOff) {
    std::optional<Drafter> drafter;
    if (options.speculation.mode == SpeculationMode::kDraft) {
      if (!draft) throw Error(ErrorCode::kInvalidArgument, "there is no draft to speculate with");
      drafter.emplace(std::move(draft), model(), options.max_batch_tokens);
    }
    impl_->speculation.emplace(options.speculation.depth, std::move(drafter));
  }
  if (disk) {
    impl_->persistence.emplace(*impl_->engine, std::move(disk));
    impl_->persistence->on_change([impl = impl_.get()] {
      {
        const std::lock_guard lock(impl->mutex);
        impl->disk_moved = true;
      }
      impl->changed.notify_all();
    });
  }
  impl_->stats.kv_blocks_total = impl_->engine->pager().total_blocks();
  impl_->stats.kv_window_parts_total = impl_->engine->pager().window().parts;
  impl_->thread = std::thread([impl = impl_.get()] { impl->run(); });
}

Scheduler::~Scheduler() {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->draining = impl_->stopping = true;
  }
  impl_->changed.notify_all();
  impl_->thread.join();
  impl_->persistence.reset();  // its thread calls back until then
}

RequestId Scheduler::submit(GenerateRequest request, GenerateCallback callback) {
  Impl& self = *impl_;
  const int32_t window = context_length();
  check_request(request, model(), window);
  std::unique_lock lock(self.mutex);
  if (self.draining) throw Error(ErrorCode::kUnavailable, "the model is being unloaded; try again");
  if (self.stats.waiting >= self.options.max_queue) {
    const auto wait = self.answer_rate.time_for(self.stats.waiting / 10 + 1);
    throw QueueFull("the queue is full (" + std::to_string(self.stats.waiting) +
                        " requests wait); try again in " + std::to_string(wait.count()) + " s",
                    wait);
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
  std::unique_lock lock(impl_->mutex);
  SchedulerStats stats = impl_->stats;
  lock.unlock();
  if (impl_->persistence) impl_->persistence->report(stats);
  return stats;
}

}  // namespace mlxr
