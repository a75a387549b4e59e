#include "daemon/scheduler/step_engine.h"

namespace mlxr {
namespace {

class RealEngine : public StepEngine {
 public:
  explicit RealEngine(std::unique_ptr<Engine> engine) : engine_(std::move(engine)) {}
  const Model& model() const override { return engine_->model(); }
  int32_t context_length() const override { return engine_->context_length(); }
  int64_t kv_bytes() const override { return engine_->kv_bytes(); }
  Pager& pager() override { return engine_->pager(); }
  StepLogits step(std::span<const SequenceSlice> slices) override { return engine_->step(slices); }

 private:
  std::unique_ptr<Engine> engine_;
};

}  // namespace

std::unique_ptr<StepEngine> step_engine(std::unique_ptr<Engine> engine) {
  return std::make_unique<RealEngine>(std::move(engine));
}

}  // namespace mlxr
