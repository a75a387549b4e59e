#include "core/runtime/convert.h"

#include <memory>
#include <optional>

#include "core/base/error.h"
#include "core/base/thread_pool.h"
#include "core/formats/gguf_writer.h"
#include "core/runtime/gguf_vocab_writer.h"
#include "core/runtime/model_files.h"

namespace mlxr {
namespace {

// How a tensor is written.
struct Change {
  bool interleave = false;            // rows of a head for RoPE
  float offset = 0;                   // added to each element
  std::optional<QuantFormat> format;  // else the file's
};

class Converter {
 public:
  Converter(const OpenedModel& model, const Family& family, QuantFormat type, GgufWriter& writer)
      : model_(model), family_(family), type_(type), writer_(writer) {}

  void add_all() {
    const TensorNames &from = family_.hf_names, &to = family_.gguf_names;
    add(from.embedding, to.embedding);
    add_norm(from.final_norm, to.final_norm);
    if (!model_.spec.tied_embeddings) add(from.output, to.output);
    for (int32_t i = 0; i < model_.spec.layers; ++i) {
      const bool pairs = family_.gguf_interleaves_qk;
      const auto norm = [&](const std::string& hf, const std::string& gguf) {
        add_norm(in_layer(hf, i), in_layer(gguf, i));
      };
      norm(from.attn_norm, to.attn_norm);
      add_layer(from.q, to.q, i, pairs);
      add_layer(from.k, to.k, i, pairs);
      add_layer(from.v, to.v, i);
      if (model_.spec.qk_norm) {
        norm(from.q_norm, to.q_norm);
        norm(from.k_norm, to.k_norm);
      }
      add_layer(from.o, to.o, i);
      if (model_.spec.post_norms) norm(from.post_attn_norm, to.post_attn_norm);
      norm(from.mlp_norm, to.mlp_norm);
      if (model_.spec.has_experts(i)) {
        add_moe(i);
      } else {
        if (model_.spec.gated_mlp) add_layer(from.gate, to.gate, i);
        add_layer(from.up, to.up, i);
        add_layer(from.down, to.down, i);
      }
      if (model_.spec.post_norms) norm(from.post_mlp_norm, to.post_mlp_norm);
    }
  }

  int64_t tensors() const { return tensors_; }

 private:
  void add_layer(const std::string& from, const std::string& to, int32_t layer,
                 bool interleave = false) {
    add(in_layer(from, layer), in_layer(to, layer), {.interleave = interleave});
  }

  // Routers stay float32, as GGUF's readers expect.
  void add_moe(int32_t layer) {
    const TensorNames &from = family_.hf_names, &to = family_.gguf_names;
    add_tensor(found(in_layer(from.router, layer)), in_layer(to.router, layer) + ".weight",
               {.format = QuantFormat::kF32});
    add_experts(from.expert_gate, to.expert_gate, layer);
    add_experts(from.expert_up, to.expert_up, layer);
    add_experts(from.expert_down, to.expert_down, layer);
    if (model_.spec.moe.shared_ffn == 0) return;
    add_layer(from.shared_gate, to.shared_gate, layer);
    add_layer(from.shared_up, to.shared_up, layer);
    add_layer(from.shared_down, to.shared_down, layer);
    if (!model_.spec.moe.shared_gate) return;
    WeightView gate = found(in_layer(from.shared_router, layer));
    gate.shape = {gate.columns()};
    add_tensor(gate, in_layer(to.shared_router, layer) + ".weight", {});
  }

  // One tensor of all experts' matrices.
  void add_experts(const std::string& from, const std::string& to, int32_t layer) {
    std::vector<WeightView> experts;
    for (int32_t e = 0; e < model_.spec.moe.experts; ++e) {
      experts.push_back(found(in_layer(in_layer(from, layer), e)));
    }
    const QuantFormat format = type_of(experts[0]);
    const int64_t bytes = experts[0].rows() * row_bytes(format, experts[0].columns());
    std::vector<int64_t> shape = experts[0].shape;
    shape.insert(shape.begin(), model_.spec.moe.experts);
    writer_.add_tensor(
        in_layer(to, layer) + ".weight", format, shape, [=, this](std::span<std::byte> out) {
          for (size_t e = 0; e < experts.size(); ++e) {
            const auto at = e * static_cast<size_t>(bytes);
            write_rows(experts[e], {.format = format}, out.subspan(at, static_cast<size_t>(bytes)));
          }
        });
    ++tensors_;
  }

  // GGUF has norms' weights as they are multiplied.
  void add_norm(const std::string& from, const std::string& to) {
    add(from, to, {.offset = model_.spec.norm_offset});
  }

  WeightView found(const std::string& module) const {
    const auto weight = model_.source->weight(module);
    if (!weight) {
      throw Error(ErrorCode::kCorruptFile,
                  model_.source->where() + " lacks the tensor \"" + module + ".weight\"");
    }
    return *weight;
  }

  void add(const std::string& from, const std::string& to, const Change& change = {}) {
    add_tensor(found(from), to + ".weight", change);
    if (const auto bias = model_.source->bias(from)) {
      add_tensor(*bias, to + ".bias", {.interleave = change.interleave});
    }
  }

  QuantFormat type_of(const WeightView& view) const {
    if (view.shape.size() < 2) return QuantFormat::kF32;
    return view.columns() % info(type_).block_elements == 0 ? type_ : QuantFormat::kF16;
  }

  void add_tensor(const WeightView& view, const std::string& name, Change change) {
    if (!change.format) change.format = type_of(view);
    // A vector is one column a row here, so that its rows can be interleaved as a matrix's are.
    WeightView rows = view;
    if (view.shape.size() == 1) rows.shape = {view.shape[0], 1};
    writer_.add_tensor(name, *change.format, view.shape,
                       [=, this](std::span<std::byte> out) { write_rows(rows, change, out); });
    ++tensors_;
  }

  void write_rows(const WeightView& rows, const Change& change, std::span<std::byte> out) {
    const QuantFormat format = *change.format;
    const int64_t stride = row_bytes(format, rows.columns());
    pool_.parallel_for(rows.rows(), 16, [&](int64_t begin, int64_t end, int) {
      std::vector<float> row(static_cast<size_t>(rows.columns()));
      for (int64_t r = begin; r < end; ++r) {
        const int64_t from = change.interleave ? hf_row_of_gguf(r, model_.spec.head_dim) : r;
        dequantize_row(rows, from, row.data());
        for (float& value : row) value += change.offset;
        info(format).quantize(row.data(), out.data() + r * stride, rows.columns());
      }
    });
    for (const auto& file : model_.source->files()) file->check_intact();
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
  const OpenedModel model = open_folder_model(folder);
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
