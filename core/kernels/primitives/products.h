// What the primitives share that multiply activations by weights: jobs, and the loops over their
// row tiles.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "core/base/thread_pool.h"
#include "core/kernels/cpu/activation.h"
#include "core/kernels/cpu/activations.h"
#include "core/kernels/cpu/matrix_ref.h"
#include "core/kernels/primitives/ops.h"

namespace mlxr {

// scale * matrix(x), added to rows [first, first + x.columns) of a product's result: the second
// half of a low-rank term (low_rank.h).
struct Addend {
  cpu::MatrixRef matrix;  // [the product's rows, rank]
  cpu::ActivationView x;
  float scale = 1;
  int64_t first = 0;
};

// One product: a matrix, its bias, what is added to it, and where its result goes.
struct ProductJob {
  cpu::MatrixRef matrix;
  const float* bias = nullptr;  // [matrix.rows]
  cpu::ActivationView x;
  float* out = nullptr;                       // [x.columns, matrix.rows]
  std::optional<cpu::Activation> activation;  // of what goes there
  std::span<const Addend> addends = {};       // in this order
};

// f(gate(x)) * up(x), which goes to gate.out; up.out is not used.
struct GatedJob {
  ProductJob gate, up;
};

// The forms of one input that products read: its int8 form is made once for all that want the same
// tiles, which is all of them unless some are packed and some are not. Kept from step to step, so
// that its memory is.
class ProductInput {
 public:
  // x is [columns, k]; it must outlive the views.
  void set(const float* x, int64_t columns, int64_t k);
  // Valid until the next set().
  cpu::ActivationView view_for(const cpu::MatrixRef& matrix, ThreadPool& threads);

 private:
  cpu::ActivationView tiled(const cpu::MatrixRef& matrix, ThreadPool& threads);

  cpu::ActivationView plain_;
  cpu::QuantizedActivations forms_[2];
  int made_ = 0;
  std::vector<float> tiles_;
  bool tiled_ = false;
};

ProductJob product_job(const LinearWeight& weight, ProductInput& input, float* out,
                       ThreadPool& threads);

// The row tiles of all jobs as one loop, so that threads do not wait between them.
void run_products(const std::vector<ProductJob>& jobs, ThreadPool& threads);
// The same bits, on the caller's thread.
void run_products_here(const std::vector<ProductJob>& jobs);
void run_gated(const std::vector<GatedJob>& jobs, cpu::Activation f, ThreadPool& threads);

}  // namespace mlxr
