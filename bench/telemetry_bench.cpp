// What telemetry adds to a decode step: histograms and trace events of every running answer, as the
// scheduler records them. Nanoseconds a step; one of the smallest demo model takes 700,000.
#include <benchmark/benchmark.h>

#include <memory>
#include <vector>

#include "core/base/file.h"
#include "daemon/scheduler/step_record.h"
#include "tests/source_dir.h"

namespace {

using namespace mlxr;

std::shared_ptr<const Model> vocabulary_only() {
  auto model = std::make_shared<Model>();
  model->spec.vocab = 6144;
  model->tokenizer =
      Tokenizer::from_json(read_file(testing::source_dir() / "models/mlxr-demo/tokenizer.json"));
  return model;
}

struct Step {
  explicit Step(size_t sequences) {
    for (size_t i = 0; i < sequences; ++i) {
      GenerateRequest request;
      request.prompt = {1};
      running.push_back(std::make_unique<RunningSequence>(
          i + 1, std::move(request), [](GenerateEvent&&) {}, *model, 64));
      batch.members.push_back({running.back().get(), false, {}});
      batch.slices.push_back({});
    }
  }
  std::shared_ptr<const Model> model = vocabulary_only();
  std::vector<std::unique_ptr<RunningSequence>> running;
  Batch batch;
};

void record_step(benchmark::State& state, bool traced) {
  Step step(static_cast<size_t>(state.range(0)));
  StepRecord record(traced ? std::make_shared<Trace>(8192) : nullptr, "model");
  SchedulerStats stats;
  for (auto _ : state) {
    const auto begin = StepRecord::Clock::now();
    record.computed(step.batch, begin, StepRecord::Clock::now());
    for (const auto& s : step.running) {
      record.accepted(*s, StepRecord::Clock::now(), 1, false, stats);
    }
    record.flush();
  }
  benchmark::DoNotOptimize(stats);
}

void histograms(benchmark::State& state) { record_step(state, false); }
void histograms_and_trace(benchmark::State& state) { record_step(state, true); }

BENCHMARK(histograms)->Arg(1)->Arg(8)->Arg(64);
BENCHMARK(histograms_and_trace)->Arg(1)->Arg(8)->Arg(64);

}  // namespace

BENCHMARK_MAIN();
