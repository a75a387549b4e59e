#include "core/kernels/primitives/products.h"

#include <algorithm>

#include "core/kernels/cpu/elementwise.h"
#include "core/kernels/cpu/matmul.h"

namespace mlxr {
namespace {

// Memory that each worker reuses from call to call; grows to the largest layer and stays.
struct Scratch {
  cpu::MatmulScratch matmul;
  std::vector<float> tile, addend;
};

Scratch& worker_scratch() {
  thread_local Scratch scratch;
  return scratch;
}

// A tile at a time: what is added is as small as a tile of the product then, and in the cache.
void add_addends(const ProductJob& job, int64_t begin, int64_t end, float* out, int64_t stride) {
  Scratch& scratch = worker_scratch();
  for (int64_t row = begin; row < end; row += cpu::kRowTile) {
    const int64_t last = std::min(row + cpu::kRowTile, end);
    for (const Addend& addend : job.addends) {
      scratch.addend.resize(static_cast<size_t>(addend.x.columns * cpu::kRowTile));
      cpu::matmul_rows(addend.matrix, row, last, addend.x, scratch.addend.data(), cpu::kRowTile,
                       scratch.matmul);
      for (int64_t t = 0; t < addend.x.columns; ++t) {
        cpu::add_scaled(scratch.addend.data() + t * cpu::kRowTile, addend.scale, last - row,
                        out + (addend.first + t) * stride + row - begin);
      }
    }
  }
}

// Rows [begin, end) of one product with its bias; `out` is where row `begin` of the first token
// goes.
void run_tile(const ProductJob& job, int64_t begin, int64_t end, float* out, int64_t stride) {
  cpu::matmul_rows(job.matrix, begin, end, job.x, out, stride, worker_scratch().matmul);
  for (int64_t t = 0; job.bias != nullptr && t < job.x.columns; ++t) {
    float* row = out + t * stride;
    cpu::add(row, job.bias + begin, end - begin, row);
  }
  if (!job.addends.empty()) add_addends(job, begin, end, out, stride);
  for (int64_t t = 0; job.activation && t < job.x.columns; ++t) {
    cpu::activate(*job.activation, out + t * stride, end - begin);
  }
}

// One tile at a time: that of `up` lies in a scratch that stays in the cache.
void run_gated_tile(const GatedJob& job, cpu::Activation f, int64_t begin, int64_t end) {
  const int64_t rows = job.gate.matrix.rows, columns = job.gate.x.columns;
  run_tile(job.gate, begin, end, job.gate.out + begin, rows);
  std::vector<float>& up = worker_scratch().tile;
  up.resize(static_cast<size_t>(columns * cpu::kRowTile));
  run_tile(job.up, begin, end, up.data(), cpu::kRowTile);
  for (int64_t t = 0; t < columns; ++t) {
    cpu::activate_gated(f, job.gate.out + t * rows + begin, up.data() + t * cpu::kRowTile,
                        end - begin);
  }
}

int64_t tiles_of(int64_t rows) { return (rows + cpu::kRowTile - 1) / cpu::kRowTile; }

// Calls body(job, first row, last row) for whole tiles of each job, `rows` of it.
template <class Job, class Rows, class Body>
void each_tile_range(const std::vector<Job>& jobs, ThreadPool& threads, const Rows& rows,
                     const Body& body) {
  int64_t total = 0;
  for (const Job& job : jobs) total += tiles_of(rows(job));
  threads.parallel_ranges(total, 1, [&](int64_t begin, int64_t end, int) {
    for (const Job& job : jobs) {
      const int64_t tiles = tiles_of(rows(job));
      const int64_t first = std::max<int64_t>(begin, 0), last = std::min(end, tiles);
      if (first < last) {
        body(job, first * cpu::kRowTile, std::min(last * cpu::kRowTile, rows(job)));
      }
      begin -= tiles;
      end -= tiles;
      if (end <= 0) break;
    }
  });
}

}  // namespace

void ProductInput::set(const float* x, int64_t columns, int64_t k) {
  plain_ = {.x = x, .stride = k, .columns = columns, .k = k, .quantized = nullptr};
  made_ = 0;
  tiled_ = false;
}

cpu::ActivationView ProductInput::view_for(const cpu::MatrixRef& matrix, ThreadPool& threads) {
  if (matrix.packed && cpu::is_float(matrix.format)) return tiled(matrix, threads);
  if (!cpu::needs_quantized_activations(matrix)) return plain_;
  const int64_t tile = cpu::activation_tile(matrix, plain_.columns);
  int i = 0;
  while (i < made_ && forms_[i].tile != tile) ++i;
  if (i == made_) {
    cpu::quantize_activations(plain_.x, plain_.stride, plain_.columns, plain_.k, tile, forms_[i],
                              threads);
    ++made_;
  }
  cpu::ActivationView view = plain_;
  view.quantized = &forms_[i];
  return view;
}

// All packed float formats want the same tiles; one column is a tile as it lies.
cpu::ActivationView ProductInput::tiled(const cpu::MatrixRef& matrix, ThreadPool& threads) {
  cpu::ActivationView view = plain_;
  view.tiles = plain_.x;
  if (plain_.columns == 1) return view;
  if (!tiled_) {
    cpu::tile_activations(plain_.x, plain_.stride, plain_.columns, plain_.k,
                          cpu::activation_tile(matrix, plain_.columns), tiles_, threads);
    tiled_ = true;
  }
  view.tiles = tiles_.data();
  return view;
}

ProductJob product_job(const LinearWeight& weight, ProductInput& input, float* out,
                       ThreadPool& threads) {
  return {.matrix = weight.weight.ref,
          .bias = weight.bias ? weight.bias->data<float>() : nullptr,
          .x = input.view_for(weight.weight.ref, threads),
          .out = out,
          .activation = {}};
}

void run_products(const std::vector<ProductJob>& jobs, ThreadPool& threads) {
  each_tile_range(
      jobs, threads, [](const ProductJob& job) { return job.matrix.rows; },
      [](const ProductJob& job, int64_t begin, int64_t end) {
        run_tile(job, begin, end, job.out + begin, job.matrix.rows);
      });
}

void run_products_here(const std::vector<ProductJob>& jobs) {
  for (const ProductJob& job : jobs) run_tile(job, 0, job.matrix.rows, job.out, job.matrix.rows);
}

void run_gated(const std::vector<GatedJob>& jobs, cpu::Activation f, ThreadPool& threads) {
  each_tile_range(
      jobs, threads, [](const GatedJob& job) { return job.gate.matrix.rows; },
      [&](const GatedJob& job, int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; row += cpu::kRowTile) {
          run_gated_tile(job, f, row, std::min(row + cpu::kRowTile, end));
        }
      });
}

}  // namespace mlxr
