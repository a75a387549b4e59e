#include "core/runtime/convert.h"

#include <memory>

#include "core/base/error.h"
#include "core/base/thread_pool.h"
#include "core/formats/gguf_writer.h"
#include "core/runtime/gguf_vocab_writer.h"
#include "core/runtime/model_files.h"

namespace mlxr {
namespace {

// Row of the file that GGUF's row `row` comes from, when rows of a head are interleaved.
int64_t source_row(int64_t row, int64_t head_dim, bool interleave) {
  if (!interleave) return row;
  const int64_t in_head = row % head_dim;
  return row - in_head + (in_head % 2) * (head_dim / 2) + in_head / 2;
}

class Converter {
 public:
  Converter(const OpenedModel& model, const Family& family, QuantFormat type, GgufWriter& writer)
      : model_(model), family_(family), type_(type), writer_(writer) {}

  void add_all() {
    const TensorNames &from = family_.hf_names, &to = family_.gguf_names;
    add(from.embedding, to.embedding);
    add(from.final_norm, to.final_norm);
    if (!model_.spec.tied_embeddings) add(from.output, to.output);
    for (int32_t i = 0; i < model_.spec.layers; ++i) {
      const bool pairs = family_.gguf_interleaves_qk;
      add_layer(from.attn_norm, to.attn_norm, i);
      add_layer(from.q, to.q, i, pairs);
      add_layer(from.k, to.k, i, pairs);
      add_layer(from.v, to.v, i);
      add_layer(from.o, to.o, i);
      add_layer(from.mlp_norm, to.mlp_norm, i);
      add_layer(from.gate, to.gate, i);
      add_layer(from.up, to.up, i);
      add_layer(from.down, to.down, i);
    }
  }

  int64_t tensors() const { return tensors_; }

 private:
  void add_layer(const std::string& from, const std::string& to, int32_t layer,
                 bool interleave = false) {
    add(in_layer(from, layer), in_layer(to, layer), interleave);
  }

  void add(const std::string& from, const std::string& to, bool interleave = false) {
    const auto weight = model_.source->weight(from);
    if (!weight) {
      throw Error(ErrorCode::kCorruptFile,
                  model_.source->where() + " lacks the tensor \"" + from + ".weight\"");
    }
    add_tensor(*weight, to + ".weight", interleave);
    if (const auto bias = model_.source->bias(from)) add_tensor(*bias, to + ".bias", interleave);
  }

  QuantFormat type_of(const WeightView& view) const {
    if (view.shape.size() < 2) return QuantFormat::kF32;
    return view.columns() % info(type_).block_elements == 0 ? type_ : QuantFormat::kF16;
  }

  void add_tensor(const WeightView& view, const std::string& name, bool interleave) {
    const QuantFormat format = type_of(view);
    // A vector is one column a row here, so that its rows can be interleaved as a matrix's are.
    WeightView rows = view;
    if (view.shape.size() == 1) rows.shape = {view.shape[0], 1};
    const int64_t head_dim = model_.spec.head_dim;
    const auto produce = [=, &pool = pool_](std::span<std::byte> out) {
      const int64_t stride = row_bytes(format, rows.columns());
      pool.parallel_for(rows.rows(), 16, [&](int64_t begin, int64_t end, int) {
        std::vector<float> row(static_cast<size_t>(rows.columns()));
        for (int64_t r = begin; r < end; ++r) {
          dequantize_row(rows, source_row(r, head_dim, interleave), row.data());
          info(format).quantize(row.data(), out.data() + r * stride, rows.columns());
        }
      });
    };
    writer_.add_tensor(name, format, view.shape, produce);
    ++tensors_;
  }

  const OpenedModel& model_;
  const Family& family_;
  QuantFormat type_;
  GgufWriter& writer_;
  int64_t tensors_ = 0;
  ThreadPool pool_{0};  // searching for scales takes 0.1 us a weight
};

}  // namespace

std::string writable_formats() {
  std::string names;
  for (const QuantFormatInfo& f : quant_formats()) {
    if (f.quantize == nullptr || f.gguf_type < 0) continue;
    names += (names.empty() ? "" : ", ") + std::string(f.name);
  }
  return names;
}

ConvertReport convert_to_gguf(const std::filesystem::path& folder, const std::filesystem::path& out,
                              QuantFormat type) {
  if (info(type).quantize == nullptr || info(type).gguf_type < 0) {
    throw Error(ErrorCode::kUnsupported, "this build reads " + std::string(info(type).name) +
                                             " but does not write it; it writes " +
                                             writable_formats());
  }
  const OpenedModel model = open_folder_model(folder, false);
  check_spec(model.spec, folder.string());
  const Family& family = family_of_hf(model.facts.architecture, folder.string());
  GgufWriter writer;
  family.write_gguf(model.spec, writer);
  const std::filesystem::path name = folder.lexically_normal();
  writer.add("general.name", (name.has_filename() ? name : name.parent_path()).filename().string());
  writer.add("general.alignment", int64_t{32});
  if (std::filesystem::exists(folder / "tokenizer.json")) {
    write_gguf_vocab(folder, model.spec.vocab, writer);
  }
  Converter converter(model, family, type, writer);
  converter.add_all();
  writer.write(out);
  return {.tensors = converter.tensors(),
          .bytes = static_cast<int64_t>(std::filesystem::file_size(out))};
}

}  // namespace mlxr
