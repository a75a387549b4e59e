// Adapters in GGUF, as llama.cpp's convert_lora_to_gguf.py writes them.
// Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
#include "core/base/error.h"
#include "core/formats/gguf_reader.h"
#include "core/runtime/adapters/adapter_file.h"

namespace mlxr {
namespace {

constexpr std::string_view kGgufA = ".weight.lora_a", kGgufB = ".weight.lora_b";

[[noreturn]] void unsupported(const GgufFile& file, const std::string& what) {
  throw Error(ErrorCode::kUnsupported, file.path().string() + " " + what);
}

void check_metadata(const GgufFile& file, const std::string& architecture) {
  const std::string type = file.text("general.type").value_or("model");
  if (type != "adapter") unsupported(file, "is of type \"" + type + "\", not an adapter");
  const std::string kind = file.text("adapter.type").value_or("lora");
  if (kind != "lora") {
    unsupported(file, "is an adapter of type \"" + kind +
                          "\", which this build does not apply; it "
                          "applies \"lora\"");
  }
  if (file.metadata().contains("adapter.alora.invocation_tokens")) {
    unsupported(file, "is an aLoRA adapter, which this build does not apply");
  }
  const std::string made_for = file.text("general.architecture").value_or("");
  if (made_for != architecture) {
    throw Error(ErrorCode::kInvalidArgument, file.path().string() +
                                                 " adapts models of architecture \"" + made_for +
                                                 "\", and this one is of \"" + architecture + "\"");
  }
}

AdapterPart read_part(const GgufFile& file, const std::string& module) {
  const auto find = [&](std::string_view ending) {
    const std::string name = module + std::string(ending);
    const WeightView* view = file.find(name);
    if (view == nullptr) {
      throw Error(ErrorCode::kCorruptFile, file.path().string() + " lacks the tensor \"" + name +
                                               "\"; download or convert the adapter again");
    }
    return *view;
  };
  AdapterPart part{.module = module, .a = find(kGgufA), .b = find(kGgufB)};
  const auto rank = static_cast<double>(rank_of(file.path(), part.a, part.b));
  // Files without an alpha are scaled as they are.
  const double alpha = file.number("adapter.lora.alpha").value_or(0);
  part.scale = alpha == 0 ? 1.0f : static_cast<float>(alpha / rank);
  return part;
}

}  // namespace

AdapterFile read_gguf_adapter(const std::filesystem::path& path, const std::string& architecture) {
  const auto file = GgufFile::open(path);
  check_metadata(*file, architecture);
  if (!file->unsupported_tensors().empty()) {
    const auto& tensor = file->unsupported_tensors().front();
    unsupported(*file, "has the tensor \"" + tensor.name + "\" in " +
                           std::string(gguf_type_name(tensor.type)) +
                           ", which this build does not read; convert the adapter to F16");
  }
  AdapterFile out{.path = path, .gguf = true, .parts = {}, .files = {file->file()}};
  for (const WeightView& view : file->tensors()) {
    const auto module = [&](std::string_view ending) {
      return view.name.substr(0, view.name.size() - ending.size());
    };
    if (view.name.ends_with(kGgufA)) {
      out.parts.push_back(read_part(*file, module(kGgufA)));
    } else if (view.name.ends_with(kGgufB)) {
      read_part(*file, module(kGgufB));  // there is an A
    } else {
      unsupported(*file, "has the tensor \"" + view.name +
                             "\", which this build does not apply; it applies *.weight.lora_a and "
                             "*.weight.lora_b");
    }
  }
  return out;
}

}  // namespace mlxr
