// Attention over a paged KV arena: decode of one token at several contexts, with the KV bytes read
// a second, and prefill, with the multiply-adds of visible tokens counted as two operations; and
// their shares of the machine's limits, if MLXR_BENCH_LIMITS names a file of them (limits.h).
//   taskset -c 1 build/release/bin/mlxr-attention-bench --benchmark_filter='threads:1'
#include <benchmark/benchmark.h>

#include <algorithm>
#include <map>
#include <random>
#include <sstream>
#include <string>
#include <tuple>

#include "bench/limits.h"
#include "core/base/huge_pages.h"
#include "core/base/thread_pool.h"
#include "core/kernels/cpu/attention.h"
#include "core/kernels/cpu/kv_store.h"

namespace {

using namespace mlxr;

struct Shape {
  int32_t heads, kv_heads, dim;
};

constexpr int32_t kBlockTokens = 32;

// Benchmarks of one shape and length share their KV: filling it takes longer than reading it.
class Arena {
 public:
  Arena(const Shape& shape, KvType type, int64_t tokens) {
    const auto blocks = static_cast<int32_t>((tokens + kBlockTokens - 1) / kBlockTokens);
    layer_ = {.type = type,
              .kv_heads = shape.kv_heads,
              .head_dim = shape.dim,
              .block_tokens = kBlockTokens};
    const auto bytes = static_cast<size_t>(layer_.region_offset(blocks, 0));
    k_ = HugePages(bytes);
    v_ = HugePages(bytes);
    layer_.k = k_.data();
    layer_.v = v_.data();
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    std::vector<float> row(static_cast<size_t>(shape.kv_heads * shape.dim));
    for (float& x : row) x = normal(random);
    for (int64_t t = 0; t < tokens; ++t) {
      std::rotate(row.begin(), row.begin() + 7, row.end());
      cpu::kv_store(layer_, static_cast<int32_t>(t / kBlockTokens),
                    static_cast<int32_t>(t % kBlockTokens), row.data(), row.data());
    }
    for (int32_t i = 0; i < blocks; ++i) table_.push_back(i);
  }
  const cpu::KvLayerRef& layer() const { return layer_; }
  const int32_t* blocks() const { return table_.data(); }

 private:
  HugePages k_, v_;
  cpu::KvLayerRef layer_;
  std::vector<int32_t> table_;
};

const Arena& arena(const Shape& shape, KvType type, int64_t tokens) {
  using Key = std::tuple<int32_t, int32_t, KvType, int64_t>;
  static std::map<Key, Arena> all;
  const Key key{shape.kv_heads, shape.dim, type, tokens};
  auto found = all.find(key);
  if (found == all.end()) {
    all.clear();  // one at a time: a long one fills the cache of none
    found = all.emplace(std::piecewise_construct, std::forward_as_tuple(key),
                        std::forward_as_tuple(shape, type, tokens))
                .first;
  }
  return found->second;
}

// `queries` last tokens of a sequence of `tokens`.
void run(benchmark::State& state, const Shape& shape, KvType type, int64_t tokens, int32_t queries,
         int threads) {
  const Arena& kv = arena(shape, type, tokens);
  ThreadPool pool(threads);
  cpu::AttentionWorkspace workspace;
  const int64_t width = int64_t{shape.heads} * shape.dim;
  std::vector<float> q(static_cast<size_t>(queries * width)), out(q.size());
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  for (float& x : q) x = normal(random);
  const cpu::AttentionParams params{.heads = shape.heads, .scale = 0.125f};
  const cpu::AttentionSequence sequence{
      .count = queries, .position = tokens - queries, .blocks = kv.blocks()};
  for (auto _ : state) {
    cpu::attention(kv.layer(), params, {&sequence, 1}, q.data(), width, out.data(), pool,
                   workspace);
    benchmark::ClobberMemory();
  }
  const double read = 2.0 * shape.kv_heads * static_cast<double>(tokens) / kBlockTokens *
                      static_cast<double>(kv.layer().region_bytes());
  const double seen = (static_cast<double>(tokens) - (queries - 1) / 2.0) * queries;
  const double work = 4.0 * shape.heads * shape.dim * seen;
  if (queries == 1) bench::count_rate(state, read, bench::Limit::kRead, threads);
  bench::count_rate(state, work, bench::Limit::kFp32, threads);
}

// Storing one token of every KV head, all over the arena.
void store(benchmark::State& state, const Shape& shape, KvType type) {
  const int64_t tokens = 4096;
  const Arena& kv = arena(shape, type, tokens);
  std::vector<float> row(static_cast<size_t>(shape.kv_heads * shape.dim), 0.7f);
  int64_t t = 0;
  for (auto _ : state) {
    t = (t + 1) % tokens;
    cpu::kv_store(kv.layer(), static_cast<int32_t>(t / kBlockTokens),
                  static_cast<int32_t>(t % kBlockTokens), row.data(), row.data());
  }
}

void add(const char* kind, const Shape& shape, KvType type, int64_t tokens, int32_t queries,
         int threads) {
  std::ostringstream name;
  name << kind << "/h" << shape.heads << "kv" << shape.kv_heads << "d" << shape.dim << "/"
       << kv_type_name(type) << "/" << tokens << "/threads:" << threads;
  auto* bench = benchmark::RegisterBenchmark(name.str().c_str(), [=](benchmark::State& state) {
    run(state, shape, type, tokens, queries, threads);
  });
  bench->Unit(benchmark::kMicrosecond);
  // One thread is charged its own time, which means something on a busy machine as well.
  if (threads > 1) bench->UseRealTime();
}

void add_all() {
  for (const Shape& shape : {Shape{32, 8, 64}, Shape{14, 2, 64}, Shape{32, 8, 128}}) {
    for (int threads : {1, 2}) {
      for (KvType type : {KvType::kF16, KvType::kQ8_0, KvType::kQ4_0, KvType::kF8E4M3}) {
        for (int64_t tokens : {512, 4096, 16384, 32768}) {
          add("decode", shape, type, tokens, 1, threads);
        }
      }
      for (int32_t tokens : {512, 4096}) {
        add("prefill", shape, KvType::kF16, tokens, tokens, threads);
      }
    }
  }
  for (int32_t dim : {40, 64, 72, 80, 96, 112, 128, 160, 192, 256}) {
    for (KvType type : {KvType::kF16, KvType::kQ8_0}) {
      add("decode", {32, 8, dim}, type, 2048, 1, 1);
    }
    add("prefill", {32, 8, dim}, KvType::kF16, 1024, 1024, 1);
  }
  for (const KvTypeName& type : kKvTypes) {
    const std::string name = "store/h32kv8d64/" + std::string(type.name);
    benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) {
      store(state, {32, 8, 64}, type.type);
    });
    add("decode", {32, 8, 64}, type.type, 8192, 1, 1);
    add("prefill", {32, 8, 64}, type.type, 2048, 2048, 1);
  }
}

}  // namespace

int main(int argc, char** argv) {
  add_all();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
