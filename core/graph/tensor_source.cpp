#include "core/graph/tensor_source.h"

#include "core/base/error.h"
#include "core/formats/gguf_reader.h"
#include "core/formats/safetensors.h"

namespace mlxr {
namespace {

[[noreturn]] void refuse_scale(const std::string& where, const std::string& scale) {
  throw Error(ErrorCode::kUnsupported,
              where + " has the tensor \"" + scale +
                  "\" of scales for a whole tensor, which this build does not apply; use a file "
                  "quantised as Q4_K_M or Q8_0");
}

class GgufSource : public TensorSource {
 public:
  explicit GgufSource(std::shared_ptr<const GgufFile> file) : file_(std::move(file)) {}

  std::optional<WeightView> weight(const std::string& module) const override {
    auto view = find(module + ".weight");
    // NVFP4 and ternary files may have a factor for a whole tensor beside it; ignored, it would
    // make the model talk nonsense.
    if (view && info(view->format).block_elements > 1 && file_->find(module + ".scale")) {
      refuse_scale(where(), module + ".scale");
    }
    return view;
  }
  std::optional<WeightView> bias(const std::string& module) const override {
    return find(module + ".bias");
  }
  std::vector<std::shared_ptr<const MappedFile>> files() const override { return {file_->file()}; }
  std::string where() const override { return file_->path().string(); }

 private:
  std::optional<WeightView> find(const std::string& name) const {
    if (const WeightView* view = file_->find(name)) return *view;
    for (const auto& other : file_->unsupported_tensors()) {
      if (other.name == name) {
        throw Error(ErrorCode::kUnsupported,
                    where() + " has tensor \"" + name + "\" in " +
                        std::string(gguf_type_name(other.type)) +
                        ", which this build does not read; use a file quantised as Q4_K_M or Q8_0");
      }
    }
    return std::nullopt;
  }

  std::shared_ptr<const GgufFile> file_;
};

class SafetensorsSource : public TensorSource {
 public:
  SafetensorsSource(Safetensors tensors, std::string where, int32_t group_size,
                    std::string optional_prefix)
      : tensors_(std::move(tensors)),
        where_(std::move(where)),
        group_size_(group_size),
        optional_prefix_(std::move(optional_prefix)) {}

  std::optional<WeightView> weight(const std::string& named) const override {
    const std::string module = in_file(named);
    const RawTensor* tensor = tensors_.find(module + ".weight");
    if (tensor == nullptr) return std::nullopt;
    if (tensor->dtype == "U32") return affine(module, *tensor);
    for (const char* scale : {".weight_scale", ".weight_scale_inv"}) {
      if (tensors_.find(module + scale) != nullptr) refuse_scale(where_, module + scale);
    }
    return as_weight(module + ".weight", *tensor);
  }
  std::optional<WeightView> bias(const std::string& named) const override {
    const std::string module = in_file(named);
    const RawTensor* tensor = tensors_.find(module + ".bias");
    return tensor ? std::optional(as_weight(module + ".bias", *tensor)) : std::nullopt;
  }
  std::vector<std::shared_ptr<const MappedFile>> files() const override { return tensors_.files(); }
  std::string where() const override { return where_; }

 private:
  std::string in_file(const std::string& module) const {
    const bool whole = tensors_.find(module + ".weight") != nullptr;
    return whole || optional_prefix_.empty() || !module.starts_with(optional_prefix_)
               ? module
               : module.substr(optional_prefix_.size());
  }

  // MLX packs 32 / bits columns in a word; scales and biases tell how many columns there are.
  std::optional<WeightView> affine(const std::string& module, const RawTensor& packed) const {
    const auto fail = [&](const std::string& what) {
      throw Error(ErrorCode::kCorruptFile, where_ + ": tensor \"" + module + ".weight\" " + what);
    };
    const RawTensor* scales = tensors_.find(module + ".scales");
    const RawTensor* biases = tensors_.find(module + ".biases");
    if (scales == nullptr || biases == nullptr) fail("is quantised but has no scales or biases");
    if (group_size_ != 32 && group_size_ != 64 && group_size_ != 128) {
      fail("is quantised, but config.json states no group size of 32, 64 or 128");
    }
    if (packed.shape.size() != 2 || scales->shape.size() != 2 || scales->shape != biases->shape ||
        scales->shape[0] != packed.shape[0] || scales->shape[1] <= 0) {
      fail("has scales of the wrong shape");
    }
    WeightView view = as_weight(module + ".scales", *scales);  // checks the dtype
    if (info(view.format).block_bytes == 1) fail("has scales of dtype " + scales->dtype);
    view.scale_format = view.format;
    view.scales = scales->bytes;
    if (biases->dtype != scales->dtype) fail("has biases of another type than its scales");
    view.biases = biases->bytes;
    const int64_t columns = scales->shape[1] * group_size_;
    const int64_t bits = packed.shape[1] * 32 / columns;
    if (bits * columns != packed.shape[1] * 32 || bits < 2 || bits > 8 || bits == 7) {
      fail("has " + std::to_string(bits) + " bits a weight; 2, 3, 4, 5, 6 and 8 can be read");
    }
    view.name = module + ".weight";
    view.format = QuantFormat::kMlxAffine;
    view.shape = {packed.shape[0], columns};
    view.bytes = packed.bytes;
    view.owner = packed.owner;
    view.bits = static_cast<int32_t>(bits);
    view.group = group_size_;
    return view;
  }

  Safetensors tensors_;
  std::string where_;
  int32_t group_size_;
  std::string optional_prefix_;
};

}  // namespace

std::unique_ptr<TensorSource> gguf_source(std::shared_ptr<const GgufFile> file) {
  return std::make_unique<GgufSource>(std::move(file));
}

std::unique_ptr<TensorSource> safetensors_source(Safetensors tensors, std::string where,
                                                 int32_t group_size, std::string optional_prefix) {
  return std::make_unique<SafetensorsSource>(std::move(tensors), std::move(where), group_size,
                                             std::move(optional_prefix));
}

}  // namespace mlxr
