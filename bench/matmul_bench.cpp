// Products of every weight format: decode (1 and 8 columns, a matrix that no cache holds) in GB/s
// of weights, prompts (512 columns) in GOP/s. Compare with the machine's limits.
//
//   mlxr-matmul-bench --benchmark_filter='Q4_K.*packed'    MLXR_BENCH_THREADS=2 (default 1)
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <string>

#include "core/base/huge_pages.h"
#include "core/base/thread_pool.h"
#include "core/kernels/cpu/matmul.h"
#include "core/kernels/cpu/packed_layout.h"
#include "tests/core/random_weights.h"

namespace mlxr {
namespace {

using testing::RandomWeight;

ThreadPool& pool() {
  static ThreadPool instance([] {
    const char* threads = std::getenv("MLXR_BENCH_THREADS");
    return threads == nullptr ? 1 : std::atoi(threads);
  }());
  return instance;
}

struct Matrix {
  RandomWeight rows;
  HugePages memory;
  cpu::MatrixRef ref;
};

Matrix make_matrix(const std::string& format, int64_t rows, int64_t cols, bool packed) {
  Matrix m;
  if (format.starts_with("MLX")) {
    m.rows = testing::random_affine(format[3] - '0', 64, QuantFormat::kF16, rows, cols, 1);
  } else {
    m.rows = testing::random_weight(*quant_format_by_name(format), rows, cols, 1);
  }
  m.ref = m.rows.ref();
  if (packed) {
    m.memory = HugePages(static_cast<size_t>(cpu::packed_bytes(m.ref)));
    m.ref.tile_stride = cpu::packed_tile_bytes(m.ref);
    cpu::pack_tiles(m.ref, 0, cpu::packed_tiles(m.ref), m.memory.data(), m.ref.tile_stride);
    m.ref.data = m.memory.data();
    m.ref.packed = true;
  }
  return m;
}

void multiply(benchmark::State& state, const std::string& format, bool packed, int64_t rows,
              int64_t cols, int64_t columns) {
  const Matrix m = make_matrix(format, rows, cols, packed);
  std::vector<float> x(static_cast<size_t>(columns * cols));
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i * 2654435761u % 1000) - 500;
  std::vector<float> out(static_cast<size_t>(columns * rows));
  cpu::QuantizedActivations quantized;
  cpu::quantize_activations(x.data(), cols, columns, cols, cpu::activation_tile(m.ref, columns),
                            quantized, pool());
  std::vector<float> tiles;
  cpu::tile_activations(x.data(), cols, columns, cols, cpu::activation_tile(m.ref, columns), tiles,
                        pool());
  const cpu::ActivationView view{.x = x.data(),
                                 .stride = cols,
                                 .columns = columns,
                                 .k = cols,
                                 .quantized = &quantized,
                                 .tiles = tiles.data()};
  for (auto _ : state) {
    pool().parallel_ranges((rows + cpu::kRowTile - 1) / cpu::kRowTile, 1,
                           [&](int64_t begin, int64_t end, int) {
                             thread_local cpu::MatmulScratch scratch;
                             const int64_t row = begin * cpu::kRowTile;
                             cpu::matmul_rows(m.ref, row, std::min(end * cpu::kRowTile, rows), view,
                                              out.data() + row, rows, scratch);
                           });
  }
  const double bytes = static_cast<double>(m.rows.view().total_bytes());
  state.counters["GB/s"] = benchmark::Counter(
      bytes * 1e-9 * static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
  state.counters["GOP/s"] =
      benchmark::Counter(2e-9 * static_cast<double>(rows * cols * columns * state.iterations()),
                         benchmark::Counter::kIsRate);
}

void pack(benchmark::State& state, const std::string& format) {
  const Matrix m = make_matrix(format, 4096, 4096, false);
  HugePages memory(static_cast<size_t>(cpu::packed_bytes(m.ref)));
  for (auto _ : state) {
    pool().parallel_for(cpu::packed_tiles(m.ref), 1, [&](int64_t begin, int64_t end, int) {
      cpu::pack_tiles(m.ref, begin, end, memory.data(), cpu::packed_tile_bytes(m.ref));
    });
  }
  state.SetBytesProcessed(m.rows.view().total_bytes() * state.iterations());
}

void register_all() {
  const char* formats[] = {"F16",     "BF16",  "F8_E4M3", "F8_E5M2", "Q4_0",   "Q4_1",
                           "Q5_0",    "Q5_1",  "Q8_0",    "Q2_K",    "Q3_K",   "Q4_K",
                           "Q5_K",    "Q6_K",  "Q8_K",    "IQ2_XXS", "IQ2_XS", "IQ2_S",
                           "IQ3_XXS", "IQ3_S", "IQ1_S",   "IQ1_M",   "IQ4_NL", "IQ4_XS",
                           "TQ1_0",   "TQ2_0", "MXFP4",   "NVFP4",   "MLX4",   "MLX8"};
  for (const std::string format : formats) {
    for (bool packed : {true, false}) {
      if (packed && format.starts_with("F8")) continue;
      const std::string name = format + (packed ? "/packed/" : "/rows/");
      const auto add = [&](const char* what, int64_t rows, int64_t cols, int64_t columns) {
        benchmark::RegisterBenchmark((name + what).c_str(), multiply, format, packed, rows, cols,
                                     columns)
            ->Unit(benchmark::kMicrosecond)
            ->UseRealTime();
      };
      add("decode1", 65536, 2048, 1);
      add("decodeK", 65536, 8192, 1);
      add("decode8", 65536, 2048, 8);
      add("cached1", 512, 2048, 1);
      add("cached8", 512, 2048, 8);
      add("prompt512", 2048, 2048, 512);
      add("promptk512", 8192, 512, 512);
      add("promptk8192", 512, 8192, 512);
      if (packed)
        benchmark::RegisterBenchmark((name + "pack").c_str(), pack, format)->UseRealTime();
    }
  }
}

}  // namespace
}  // namespace mlxr

int main(int argc, char** argv) {
  mlxr::register_all();
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
