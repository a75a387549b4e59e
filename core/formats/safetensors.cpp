#include "core/formats/safetensors.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/mapped_file.h"

namespace mlxr {
namespace {

using nlohmann::json;

[[noreturn]] void corrupt(const std::filesystem::path& path, const std::string& what) {
  throw Error(ErrorCode::kCorruptFile, path.string() + " " + what + "; download or copy it again");
}

int64_t dtype_bytes(const std::string& dtype) {
  static const std::map<std::string, int64_t> kBytes = {
      {"F64", 8},     {"I64", 8},     {"U64", 8},  {"F32", 4}, {"I32", 4},
      {"U32", 4},     {"F16", 2},     {"BF16", 2}, {"I16", 2}, {"U16", 2},
      {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"I8", 1},   {"U8", 1},  {"BOOL", 1}};
  const auto found = kBytes.find(dtype);
  return found == kBytes.end() ? 0 : found->second;
}

// get<> alone would cast a number such as 1e300, which no integer can hold.
uint64_t read_count(const json& number) {
  if (!number.is_number_unsigned()) {
    throw json::type_error::create(302, "a size that is no whole number", &number);
  }
  return number.get<uint64_t>();
}

RawTensor parse_entry(const std::filesystem::path& path, const std::string& name, const json& entry,
                      std::span<const std::byte> data) {
  RawTensor tensor;
  uint64_t begin = 0, end = 0;
  try {
    tensor.dtype = entry.at("dtype").get<std::string>();
    for (const json& size : entry.at("shape")) {
      tensor.shape.push_back(static_cast<int64_t>(read_count(size)));
    }
    begin = read_count(entry.at("data_offsets").at(0));
    end = read_count(entry.at("data_offsets").at(1));
  } catch (const json::exception&) {
    corrupt(path, "has a malformed entry for tensor \"" + name + "\"");
  }
  if (begin > end || end > data.size()) {
    corrupt(path, "is truncated: tensor \"" + name + "\" reaches past its end");
  }
  const int64_t width = dtype_bytes(tensor.dtype);
  if (width == 0) corrupt(path, "has tensor \"" + name + "\" of unknown dtype " + tensor.dtype);
  uint64_t elements = 1;
  for (int64_t size : tensor.shape) {
    if (size < 0 || (size > 0 && elements > (uint64_t{1} << 44) / static_cast<uint64_t>(size))) {
      corrupt(path, "has tensor \"" + name + "\" of an impossible shape");
    }
    elements *= static_cast<uint64_t>(size);
  }
  if (elements * static_cast<uint64_t>(width) != end - begin) {
    corrupt(path, "has tensor \"" + name + "\" whose size does not match its shape");
  }
  tensor.bytes = data.subspan(begin, end - begin);
  return tensor;
}

}  // namespace

Safetensors Safetensors::open_file(const std::filesystem::path& path) {
  const auto file = MappedFile::open(path);
  const auto bytes = file->bytes();
  uint64_t header_size = 0;
  if (bytes.size() < 8) corrupt(path, "is too short for a safetensors file");
  std::memcpy(&header_size, bytes.data(), 8);
  if (header_size > bytes.size() - 8) {
    corrupt(path, "is truncated or not a safetensors file: its header reaches past its end");
  }
  const auto* text = reinterpret_cast<const char*>(bytes.data() + 8);
  const json header = json::parse(text, text + header_size, nullptr, false);
  if (!header.is_object()) corrupt(path, "has a header that is not JSON");
  Safetensors out;
  out.files_.push_back(file);
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") continue;
    RawTensor tensor = parse_entry(path, name, entry, bytes.subspan(8 + header_size));
    tensor.owner = file;
    out.tensors_.emplace(name, std::move(tensor));
  }
  return out;
}

Safetensors Safetensors::open_folder(const std::filesystem::path& folder) {
  std::set<std::string> files;
  const std::filesystem::path index = folder / "model.safetensors.index.json";
  if (std::filesystem::exists(index)) {
    const json parsed = json::parse(read_file(index), nullptr, false);
    if (!parsed.is_object() || !parsed.contains("weight_map") ||
        !parsed["weight_map"].is_object()) {
      corrupt(index, "has no weight_map");
    }
    for (const auto& [name, file] : parsed["weight_map"].items()) {
      if (!file.is_string()) corrupt(index, "names a shard that is not text");
      const auto shard = file.get<std::string>();
      if (std::filesystem::path(shard).filename() != shard) {
        corrupt(index, "names the shard \"" + shard + "\" outside its folder");
      }
      files.insert(shard);
    }
  } else {
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      const std::string name = entry.path().filename().string();
      if (entry.path().extension() == ".safetensors" && name != "golden.safetensors") {
        files.insert(name);
      }
    }
  }
  if (files.empty()) {
    throw Error(ErrorCode::kNotFound, folder.string() + " holds no .safetensors file");
  }
  Safetensors out;
  for (const std::string& file : files) {
    if (!std::filesystem::exists(folder / file)) {
      throw Error(ErrorCode::kNotFound,
                  (folder / file).string() + " is missing; download the model again");
    }
    Safetensors shard = open_file(folder / file);
    out.tensors_.merge(shard.tensors_);
    out.files_.push_back(shard.files_.front());
  }
  return out;
}

const RawTensor* Safetensors::find(std::string_view name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

WeightView as_weight(const std::string& name, const RawTensor& tensor) {
  const auto format = quant_format_by_name(tensor.dtype);
  if (!format) {
    throw Error(ErrorCode::kUnsupported, "tensor \"" + name + "\" has dtype " + tensor.dtype +
                                             "; weights can be F32, F16, BF16, F8_E4M3 or F8_E5M2");
  }
  WeightView view;
  view.name = name;
  view.format = *format;
  view.shape = tensor.shape;
  view.bytes = tensor.bytes;
  view.owner = tensor.owner;
  return view;
}

}  // namespace mlxr
