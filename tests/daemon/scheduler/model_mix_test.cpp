// The scheduler on a real, tiny model: random mixes of arrivals, lengths, common prefixes,
// samplers, adapters, cancels, speculation, shifts and arenas that force eviction and preemption,
// against the answer of one sequence alone.
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <thread>

#include "core/runtime/sampler/random.h"
#include "daemon/scheduler/scheduler.h"
#include "daemon/scheduler/step_engine.h"
#include "tests/daemon/scheduler/collected_answer.h"
#include "tests/daemon/scheduler/tiny_model.h"

namespace mlxr {
namespace {

using testing::Answer;
using testing::kBlockTokens;
using testing::kContext;
using testing::tiny_engine;
using testing::tiny_model;
using Ids = std::vector<int32_t>;

// An engine that checks the pager and the index after each step.
class CheckedEngine : public StepEngine {
 public:
  explicit CheckedEngine(std::unique_ptr<Engine> engine) : engine_(std::move(engine)) {}
  const Model& model() const override { return engine_->model(); }
  int32_t context_length() const override { return engine_->context_length(); }
  int64_t kv_bytes() const override { return engine_->kv_bytes(); }
  Pager& pager() override { return engine_->pager(); }
  StepLogits step(std::span<const SequenceSlice> slices) override {
    StepLogits logits = engine_->step(slices);
    pager().check();
    return logits;
  }

 private:
  std::unique_ptr<Engine> engine_;
};

// One sequence alone, its prompt in one piece, nothing shared, every position kept.
Ids alone(const GenerateRequest& request, KvType type, bool windows) {
  static std::map<std::pair<KvType, bool>, std::unique_ptr<Engine>> engines;
  std::unique_ptr<Engine>& engine_of_type = engines[{type, windows}];
  if (!engine_of_type) {
    const auto model = windows ? testing::with_windows(tiny_model()) : tiny_model();
    engine_of_type = tiny_engine(kContext / kBlockTokens, type, 1, model, kContext);
  }
  KvSequence kv = engine_of_type->new_sequence();
  SamplingParams sampling = request.sampling;
  Sampler sampler(sampling, tiny_model()->spec.vocab);
  Ids all = request.prompt, answer;
  while (static_cast<int32_t>(answer.size()) < request.max_tokens) {
    if (static_cast<int32_t>(all.size()) == kContext) {
      if (!request.shift) break;
      all = testing::shifted(all, request.prompt.size(), *request.shift);
      kv = engine_of_type->new_sequence();
      sampling.seed = next_seed(*sampling.seed);
      sampler = Sampler(sampling, tiny_model()->spec.vocab);
    }
    const SequenceSlice slice{.kv = &kv,
                              .tokens = std::span(all).subspan(static_cast<size_t>(kv.length())),
                              .adapters = request.adapters};
    const StepLogits logits = engine_of_type->step(std::span(&slice, 1));
    const int32_t token =
        sampler.sample(logits.row(0), all, static_cast<int64_t>(all.size())).token;
    const bool ends = std::ranges::count(tiny_model()->stop_tokens, token) > 0;
    if (ends && !request.ignore_eos) break;
    all.push_back(token);
    answer.push_back(token);
  }
  return answer;
}

class ModelMix : public ::testing::TestWithParam<uint32_t> {};

TEST_P(ModelMix, AnswersAsAloneAndLeaksNoBlock) {
  std::mt19937 random(GetParam());
  const auto below = [&](uint32_t n) { return static_cast<int32_t>(random() % n); };
  const auto words = [&](int32_t count) {
    Ids ids;
    for (int32_t i = 0; i < count; ++i) ids.push_back(10 + below(6000));
    return ids;
  };
  const KvType type = GetParam() % 2 == 0 ? KvType::kF16 : KvType::kQ8_0;
  // Layers with a window, whose places may be few.
  const bool windows = GetParam() % 3 == 0;
  const int32_t window_step = 16 + below(40);
  SchedulerOptions options{.max_batch_tokens = 16 + below(150),
                           .max_sequences = 2 + below(10),
                           .target_latency_ms = 1 + below(20)};
  if (GetParam() % 4 >= 2) {  // proposes often, whether it pays or not
    options.speculation = {
        .mode = GetParam() % 8 >= 4 ? SpeculationMode::kDraft : SpeculationMode::kNgram,
        .depth = {.deepest = 1 + below(8), .first_pause = 1, .longest_pause = 1}};
  }
  // The draft is the model itself, but for what its KV cache makes of it and, in half of the mixes,
  // its vocabulary, and short of room.
  static const auto kOther = testing::tiny_model_with_other_vocab(3);
  auto model = tiny_model(), draft = GetParam() % 2 == 1 ? kOther : tiny_model();
  if (windows) {
    model = testing::with_windows(model);
    draft = testing::with_windows(draft);
  }
  Scheduler scheduler(std::make_unique<CheckedEngine>(tiny_engine(
                          kContext / kBlockTokens + below(24), type, 2, model, window_step)),
                      options,
                      std::make_unique<CheckedEngine>(
                          tiny_engine(4 + below(24), KvType::kQ4_0, 2, draft, window_step)));
  struct Case {
    GenerateRequest request;
    bool cancel;
    RequestId id;
    Answer answer;
  };
  const std::vector<Ids> prefixes = {words(90), words(40), {}};
  // Half of the mixes: the same prefixes, and no blocks of them, for different adapters.
  const auto& loaded = testing::tiny_adapters();
  std::vector<std::vector<ScaledAdapter>> adapters(1);
  if (GetParam() % 8 == 2 || GetParam() % 2 == 1) {
    adapters.push_back({{loaded[0], 1}});
    adapters.push_back({{loaded[0], 0.4f}});
    adapters.push_back({{loaded[0], 1}, {loaded[1], -0.7f}});
  }
  std::vector<std::unique_ptr<Case>> cases;
  for (int i = 0; i < 24; ++i) {
    auto c = std::make_unique<Case>();
    if (i > 0 && below(4) == 0) {  // another answer to the same prompt
      c->request = cases.back()->request;
    } else {
      c->request.prompt = prefixes[random() % prefixes.size()];
      const Ids rest = words(1 + below(60));
      c->request.prompt.insert(c->request.prompt.end(), rest.begin(), rest.end());
      c->request.max_tokens = below(60);
    }
    if (below(3) == 0) {
      c->request.shift = ContextShift{below(160) - 1};
      c->request.ignore_eos = true;
      c->request.max_tokens = below(400);
    }
    c->request.adapters = adapters[random() % adapters.size()];
    c->request.sampling.temperature = below(2) == 0 ? 0.0f : 0.9f;
    c->request.sampling.seed = random();
    c->request.client = std::string(static_cast<size_t>(below(3)), 'c');
    c->request.priority = below(6) == 0 ? 1 : 0;
    c->cancel = below(5) == 0;
    c->id = scheduler.submit(c->request, c->answer.callback());
    if (below(3) == 0) std::this_thread::sleep_for(std::chrono::milliseconds(below(8)));
    if (c->cancel) scheduler.cancel(c->id);
    cases.push_back(std::move(c));
  }
  for (const auto& c : cases) {
    const GenerateEvent& last = c->answer.wait();
    ASSERT_NE(last.reason, FinishReason::kError) << last.error;
    const Ids expected = alone(c->request, type, windows), got = c->answer.tokens();
    if (last.reason == FinishReason::kCancelled) {
      EXPECT_TRUE(c->cancel);
      ASSERT_LE(got.size(), expected.size());
      EXPECT_TRUE(std::equal(got.begin(), got.end(), expected.begin()));
    } else {
      EXPECT_EQ(got, expected);
    }
  }
  testing::wait_for_free_blocks(scheduler);
  EXPECT_GT(scheduler.stats().prefix_hit_tokens, 0u);
  EXPECT_GT(scheduler.stats().context_shifts, 0u);
  // Whether proposing pays is measured in this machine's time: a loaded one may never find it so.
  if (options.speculation.mode == SpeculationMode::kOff) {
    EXPECT_EQ(scheduler.stats().proposed_tokens, 0u);
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, ModelMix, ::testing::Range(1u, 13u));

}  // namespace
}  // namespace mlxr
