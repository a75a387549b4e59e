// Products of every weight format: decode (1 and 8 columns, a matrix that no cache holds) in GB/s
// of weights, prompts (64 and 512 columns) in GOP/s, and shares of the machine's limits (limits.h).
// Decoding of single rows, and packing, in GB/s of the file's format.
//
//   machine_limits > limits.json
//   MLXR_BENCH_LIMITS=limits.json MLXR_BENCH_THREADS=2 (default 1)
//   mlxr-matmul-bench --benchmark_filter='Q4_K/packed'
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <string>

#include "bench/limits.h"
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

// A format and what it is called: "Q4_K", "MLX4-G64".
struct Format {
  QuantFormat format = QuantFormat::kF32;
  int32_t bits = 0, group = 0;

  RandomWeight matrix(int64_t rows, int64_t cols) const {
    if (format != QuantFormat::kMlxAffine) return testing::random_weight(format, rows, cols, 1);
    return testing::random_affine(bits, group, QuantFormat::kF16, rows, cols, 1);
  }
  std::string name() const { return format_name(matrix(1, 256).view()); }
};

std::vector<Format> every_format() {
  std::vector<Format> all;
  for (const QuantFormatInfo& f : quant_formats()) {
    if (f.format != QuantFormat::kMlxAffine) all.push_back({f.format});
  }
  for (int32_t bits : {2, 3, 4, 5, 6, 8}) {
    for (int32_t group : {32, 64, 128}) all.push_back({QuantFormat::kMlxAffine, bits, group});
  }
  return all;
}

struct Matrix {
  RandomWeight rows;
  HugePages memory;
  cpu::MatrixRef ref;
};

Matrix make_matrix(const Format& format, int64_t rows, int64_t cols, bool packed) {
  Matrix m;
  m.rows = format.matrix(rows, cols);
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

void multiply(benchmark::State& state, const Format& format, bool packed, int64_t rows,
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
  using bench::Limit;
  const int threads = pool().size();
  bench::count_rate(state, static_cast<double>(m.rows.view().total_bytes()), Limit::kRead, threads);
  bench::count_rate(state, 2.0 * static_cast<double>(rows * cols * columns),
                    cpu::needs_quantized_activations(m.ref) ? Limit::kInt8 : Limit::kFp32, threads);
}

// Rows all over a table that no cache holds, as an embedding's are looked up.
void decode_rows(benchmark::State& state, const Format& format) {
  constexpr int64_t kRows = 65536, kCols = 2048;
  const Matrix m = make_matrix(format, kRows, kCols, false);
  std::vector<float> out(kCols);
  int64_t row = 0;
  for (auto _ : state) {
    row = (row + 7919) % kRows;
    cpu::decode_row(m.ref, row, out.data());
    benchmark::DoNotOptimize(out.data());
    benchmark::ClobberMemory();
  }
  bench::count_rate(state, static_cast<double>(m.rows.view().total_bytes()) / kRows,
                    bench::Limit::kRead);
}

void pack(benchmark::State& state, const Format& format) {
  const Matrix m = make_matrix(format, 4096, 4096, false);
  HugePages memory(static_cast<size_t>(cpu::packed_bytes(m.ref)));
  for (auto _ : state) {
    pool().parallel_for(cpu::packed_tiles(m.ref), 1, [&](int64_t begin, int64_t end, int) {
      cpu::pack_tiles(m.ref, begin, end, memory.data(), cpu::packed_tile_bytes(m.ref));
    });
  }
  bench::count_rate(state, static_cast<double>(m.rows.view().total_bytes()), bench::Limit::kRead,
                    pool().size());
}

void add_products(const Format& format, bool packed) {
  const std::string name = format.name() + (packed ? "/packed/" : "/rows/");
  const auto add = [&](const char* what, int64_t rows, int64_t cols, int64_t columns) {
    benchmark::RegisterBenchmark((name + what).c_str(), multiply, format, packed, rows, cols,
                                 columns)
        ->Unit(benchmark::kMicrosecond)
        ->UseRealTime();
  };
  const int64_t many = format.format == QuantFormat::kF32 ? 16384 : 65536;  // 2 GiB would not do
  add("decode1", many, 2048, 1);
  add("decodeK", many, 8192, 1);
  add("decode8", many, 2048, 8);
  add("cached1", 512, 2048, 1);
  add("cached8", 512, 2048, 8);
  add("prompt64", 8192, 2048, 64);
  add("prompt512", 2048, 2048, 512);
  add("promptk512", 8192, 512, 512);
  add("promptk8192", 512, 8192, 512);
}

void register_all() {
  for (const Format& format : every_format()) {
    add_products(format, false);
    const std::string name = format.name();
    benchmark::RegisterBenchmark((name + "/decode_row").c_str(), decode_rows, format);
    if (!cpu::has_packed_form(format.matrix(1, 256).ref())) continue;
    add_products(format, true);
    benchmark::RegisterBenchmark((name + "/packed/pack").c_str(), pack, format)->UseRealTime();
  }
}

}  // namespace
}  // namespace mlxr

int main(int argc, char** argv) {
  mlxr::register_all();
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
