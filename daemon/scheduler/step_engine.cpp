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
  const KernelTimes* kernel_times() const override { return &engine_->kernel_times(); }
  int64_t block_bytes() const override { return engine_->block_bytes(); }
  void save_block(BlockId block, std::span<std::byte> to) const override {
    engine_->save_block(block, to);
  }
  void load_block(BlockId block, std::span<const std::byte> from) override {
    engine_->load_block(block, from);
  }

 private:
  std::unique_ptr<Engine> engine_;
};

}  // namespace

std::unique_ptr<StepEngine> step_engine(std::unique_ptr<Engine> engine) {
  return std::make_unique<RealEngine>(std::move(engine));
}

}  // namespace mlxr
