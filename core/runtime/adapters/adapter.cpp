#include "core/runtime/adapters/adapter.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <map>
#include <set>

#include "core/base/error.h"
#include "core/base/huge_pages.h"
#include "core/base/sha256.h"
#include "core/formats/gguf_reader.h"
#include "core/graph/family.h"
#include "core/runtime/adapters/adapter_file.h"

namespace mlxr {
namespace {

namespace fs = std::filesystem;

// A matrix that can be adapted.
struct Place {
  int32_t layer = 0;
  std::optional<LoraWeight> AdapterLayer::*target = nullptr;
  const char* name = "";
  int64_t rows = 0, columns = 0;
  bool rotated = false;  // by RoPE: GGUF may have its rows in another order
};

// Every matrix of the model that can be, under its name.
std::map<std::string, Place> places_of(const ModelSpec& s, const TensorNames& names) {
  const int64_t q = int64_t{s.heads} * s.head_dim, kv = int64_t{s.kv_heads} * s.head_dim;
  std::map<std::string, Place> places;
  for (int32_t i = 0; i < s.layers; ++i) {
    const auto add = [&](const std::string& name, const Place& place) {
      places[in_layer(name, i)] = place;
    };
    add(names.q, {i, &AdapterLayer::q, "q", q, s.hidden, true});
    add(names.k, {i, &AdapterLayer::k, "k", kv, s.hidden, true});
    add(names.v, {i, &AdapterLayer::v, "v", kv, s.hidden});
    add(names.o, {i, &AdapterLayer::o, "o", s.hidden, q});
    if (s.has_experts(i)) continue;
    if (s.gated_mlp) add(names.gate, {i, &AdapterLayer::gate, "gate", s.ffn, s.hidden});
    add(names.up, {i, &AdapterLayer::up, "up", s.ffn, s.hidden});
    add(names.down, {i, &AdapterLayer::down, "down", s.hidden, s.ffn});
  }
  return places;
}

[[noreturn]] void refuse_module(const AdapterFile& file, const AdapterPart& part) {
  const auto has = [&](const char* text) { return part.module.find(text) != std::string::npos; };
  const std::string where = file.path.string() + " has the tensor \"" + part.a.name + "\": ";
  if (has("expert") || has("_exps") || has("_shexp") || has("ffn_gate_inp") || has("moe.gate")) {
    throw Error(ErrorCode::kUnsupported,
                where + "adapters of a mixture's experts or router are not applied by this build");
  }
  if (has("embed") || has("embd") || has("lm_head") || part.module == "output") {
    throw Error(ErrorCode::kUnsupported,
                where +
                    "adapters of embeddings or of the vocabulary's matrix are not applied by "
                    "this build");
  }
  throw Error(ErrorCode::kUnsupported, where + "this model has no linear layer \"" + part.module +
                                           "\" that can be adapted; it was made for another model");
}

void check_shape(const AdapterFile& file, const WeightView& view, int64_t rows, int64_t columns) {
  const std::vector<int64_t> expected = {rows, columns};
  if (view.shape == expected) return;
  throw Error(ErrorCode::kCorruptFile, file.path.string() + " has the tensor \"" + view.name +
                                           "\" of shape " + shape_text(view.shape) +
                                           " instead of " + shape_text(expected) +
                                           "; it was made for another model");
}

// ---- Matrices in memory of our own ----

int64_t aligned(int64_t bytes) { return (bytes + 63) / 64 * 64; }

// The matrix in a format of floats, of which the sizes are known and nothing else.
Weight outline_of(const WeightView& view) {
  const QuantFormat format = cpu::is_float(view.format) ? view.format : QuantFormat::kF32;
  return {.ref = {.format = format,
                  .rows = view.rows(),
                  .cols = view.columns(),
                  .data = nullptr,
                  .row_stride = row_bytes(format, view.columns())},
          .owner = nullptr};
}

// Row of the view that is row `row` of the matrix; null: the same.
using RowOrder = int64_t (*)(int64_t row, int64_t head_dim);

// `view` in a format of floats, where it lies if it can be.
Weight floats_of(const WeightView& view, RowOrder order, int64_t head_dim) {
  const bool as_it_is = cpu::is_float(view.format);
  if (as_it_is && order == nullptr) return wrap_weight(view);
  WeightView out = view;
  if (!as_it_is) out.format = QuantFormat::kF32;
  const auto stride = static_cast<size_t>(row_bytes(out.format, view.columns()));
  const auto bytes =
      std::make_shared<std::vector<std::byte>>(stride * static_cast<size_t>(view.rows()));
  std::vector<float> row(static_cast<size_t>(view.columns()));
  for (int64_t r = 0; r < view.rows(); ++r) {
    const int64_t from = order == nullptr ? r : order(r, head_dim);
    std::byte* to = bytes->data() + static_cast<size_t>(r) * stride;
    if (as_it_is) {
      std::memcpy(to, view.bytes.data() + static_cast<size_t>(from) * stride, stride);
    } else {
      dequantize_row(view, from, row.data());
      std::memcpy(to, row.data(), stride);
    }
  }
  out.bytes = *bytes;
  out.owner = bytes;
  return wrap_weight(out);
}

// a has few and long rows, which are multiplied as they lie; b has many short ones, interleaved.
int64_t bytes_of_a(const Weight& a) { return aligned(a.rows() * a.ref.row_stride); }
int64_t bytes_of_b(Weight& b) {
  Weight* const one[] = {&b};
  const int64_t packed = packed_size(one);
  return aligned(packed > 0 ? packed : b.rows() * b.ref.row_stride);
}

void move_rows(Weight& weight, uint8_t* memory, const std::shared_ptr<const void>& owner) {
  std::memcpy(memory, weight.ref.data, static_cast<size_t>(weight.rows() * weight.ref.row_stride));
  weight.ref.data = memory;
  weight.owner = owner;
}

void move_b(Weight& b, uint8_t* memory, const std::shared_ptr<const void>& owner,
            ThreadPool& threads) {
  Weight* const one[] = {&b};
  if (packed_size(one) > 0) {
    pack_weights(one, memory, owner, threads);
  } else {
    move_rows(b, memory, owner);
  }
}

// ---- From a file to an adapter ----

class Builder {
 public:
  Builder(const AdapterFile& file, const ModelSpec& spec, const Family& family, bool gguf_model)
      : file_(file), spec_(spec), places_(places_of(spec, names(family, file.gguf))) {
    permutes_ = family.gguf_interleaves_qk && file.gguf != gguf_model;
    weights_.layers.resize(static_cast<size_t>(spec.layers));
  }

  // What add() of the part will take of build()'s memory.
  int64_t memory_of(const AdapterPart& part) const {
    place_of(part);
    const Weight a = outline_of(part.a);
    Weight b = outline_of(part.b);
    return bytes_of_a(a) + bytes_of_b(b);
  }

  void add(const AdapterPart& part) {
    const Place& place = place_of(part);
    const int64_t rank = part.a.rows();
    const RowOrder order = !permutes_ || !place.rotated ? nullptr
                           : file_.gguf                 ? gguf_row_of_hf
                                                        : hf_row_of_gguf;
    weights_.layers[static_cast<size_t>(place.layer)].*place.target =
        LoraWeight{.a = floats_of(part.a, nullptr, 0),
                   .b = floats_of(part.b, order, spec_.head_dim),
                   .scale = part.scale};
    rank_ = std::max(rank_, static_cast<int32_t>(rank));
    targets_.insert(place.name);
  }

  std::shared_ptr<const Adapter> build(ThreadPool& threads) {
    auto adapter = std::make_shared<Adapter>(Adapter{.path = file_.path,
                                                     .identity = identity(),
                                                     .rank = rank_,
                                                     .targets = {targets_.begin(), targets_.end()},
                                                     .bytes = 0,
                                                     .weights = nullptr});
    each([&](int32_t, const char*, LoraWeight& w) {
      adapter->bytes += bytes_of_a(w.a) + bytes_of_b(w.b);
    });
    const auto memory = std::make_shared<HugePages>(static_cast<size_t>(adapter->bytes));
    uint8_t* at = memory->data();
    each([&](int32_t, const char*, LoraWeight& w) {
      const int64_t a = bytes_of_a(w.a), b = bytes_of_b(w.b);
      move_rows(w.a, at, memory);
      move_b(w.b, at + a, memory, threads);
      at += a + b;
    });
    adapter->weights = std::make_shared<AdapterWeights>(std::move(weights_));
    return adapter;
  }

 private:
  const Place& place_of(const AdapterPart& part) const {
    const auto found = places_.find(part.module);
    if (found == places_.end()) refuse_module(file_, part);
    const int64_t rank = part.a.rows();
    check_shape(file_, part.a, rank, found->second.columns);
    check_shape(file_, part.b, found->second.rows, rank);
    return found->second;
  }

  static const TensorNames& names(const Family& family, bool gguf) {
    return gguf ? family.gguf_names : family.hf_names;
  }

  template <class Visit>
  void each(const Visit& visit) {
    for (size_t i = 0; i < weights_.layers.size(); ++i) {
      AdapterLayer& layer = weights_.layers[i];
      for (const auto& [name, target] :
           {std::pair{"q", &layer.q}, std::pair{"k", &layer.k}, std::pair{"v", &layer.v},
            std::pair{"o", &layer.o}, std::pair{"gate", &layer.gate}, std::pair{"up", &layer.up},
            std::pair{"down", &layer.down}}) {
        if (*target) visit(static_cast<int32_t>(i), name, **target);
      }
    }
  }

  // Of the rows as the model wants them, before they are interleaved for this machine.
  std::string identity() {
    Sha256 hash;
    const auto add_matrix = [&](const Weight& w) {
      hash.update(std::to_string(static_cast<int>(w.ref.format)) + ',' + std::to_string(w.rows()) +
                  ',' + std::to_string(w.cols()) + '\n');
      hash.update({reinterpret_cast<const char*>(w.ref.data),
                   static_cast<size_t>(w.rows() * w.ref.row_stride)});
    };
    each([&](int32_t layer, const char* name, const LoraWeight& w) {
      hash.update(std::to_string(layer) + name + std::to_string(std::bit_cast<uint32_t>(w.scale)) +
                  '\n');
      add_matrix(w.a);
      add_matrix(w.b);
    });
    return hash.finish();
  }

  const AdapterFile& file_;
  const ModelSpec& spec_;
  std::map<std::string, Place> places_;
  bool permutes_ = false;
  AdapterWeights weights_;
  int32_t rank_ = 0;
  std::set<std::string> targets_;
};

AdapterFile read_adapter(const fs::path& path, const ModelSpec& spec) {
  std::error_code error;
  if (!fs::exists(path, error)) {
    throw Error(ErrorCode::kNotFound, "there is no adapter at " + path.string());
  }
  const bool folder = fs::is_directory(path, error);
  const bool in_folder = path.filename() == "adapter_model.safetensors";
  AdapterFile file = folder      ? read_peft_adapter(path)
                     : in_folder ? read_peft_adapter(path.parent_path())
                                 : read_gguf_adapter(path, spec.architecture);
  if (file.parts.empty()) {
    throw Error(ErrorCode::kCorruptFile, path.string() + " adapts nothing: it holds no tensors");
  }
  return file;
}

Builder builder_for(const AdapterFile& file, const ModelFacts& facts, const ModelSpec& spec) {
  const bool gguf_model = facts.format == ModelFormat::kGguf;
  const std::string where = file.path.string();
  const Family& family = gguf_model ? family_of_gguf(facts.architecture, where)
                                    : family_of_hf(facts.architecture, where);
  return {file, spec, family, gguf_model};
}

}  // namespace

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string out;
  for (int64_t size : shape) out += (out.empty() ? "[" : ", ") + std::to_string(size);
  return (out.empty() ? "[" : out) + "]";
}

int64_t rank_of(const fs::path& path, const WeightView& a, const WeightView& b) {
  for (const WeightView* view : {&a, &b}) {
    if (view->shape.size() != 2 || view->elements() == 0) {
      throw Error(ErrorCode::kCorruptFile, path.string() + " has the tensor \"" + view->name +
                                               "\" of shape " + shape_text(view->shape) +
                                               "; a matrix is expected");
    }
  }
  if (a.shape[0] != b.shape[1]) {
    throw Error(ErrorCode::kCorruptFile, path.string() + " has the tensor \"" + b.name +
                                             "\" of shape " + shape_text(b.shape) + " instead of " +
                                             shape_text({b.shape[0], a.shape[0]}) +
                                             ", the rank of \"" + a.name + "\"");
  }
  return a.shape[0];
}

bool is_adapter_path(const fs::path& path) {
  std::error_code error;
  if (fs::is_directory(path, error)) return fs::exists(path / "adapter_config.json", error);
  if (!fs::is_regular_file(path, error)) return false;
  try {
    return GgufFile::open(path)->text("general.type").value_or("") == "adapter";
  } catch (const Error&) {
    return false;
  }
}

AdapterMemory read_adapter_memory(const fs::path& path, const ModelFacts& facts,
                                  const ModelSpec& spec) {
  const AdapterFile file = read_adapter(path, spec);
  const Builder builder = builder_for(file, facts, spec);
  AdapterMemory memory;
  for (const AdapterPart& part : file.parts) {
    memory.bytes += builder.memory_of(part);
    memory.rank = std::max(memory.rank, static_cast<int32_t>(part.a.rows()));
  }
  return memory;
}

std::shared_ptr<const Adapter> load_adapter(const fs::path& path, const Model& model,
                                            ThreadPool& threads) {
  const AdapterFile file = read_adapter(path, model.spec);
  Builder builder = builder_for(file, model.facts, model.spec);
  for (const AdapterPart& part : file.parts) builder.add(part);
  auto adapter = builder.build(threads);
  for (const auto& one : file.files) one->check_intact();
  return adapter;
}

// Adapters come first, and end with a zero byte, so that no cache_salt reads as one.
std::string kv_salt(const std::string& cache_salt, std::span<const ScaledAdapter> adapters) {
  if (adapters.empty()) return cache_salt.starts_with('\0') ? '\0' + cache_salt : cache_salt;
  std::string salt(1, '\0');
  for (const ScaledAdapter& scaled : adapters) {
    salt += scaled.adapter->identity + '*' + std::to_string(std::bit_cast<uint32_t>(scaled.scale));
  }
  return salt + '\0' + cache_salt;
}

}  // namespace mlxr
