#include "core/formats/gguf_writer.h"

#include <unistd.h>

#include <cstring>
#include <fstream>
#include <limits>
#include <numeric>

#include "core/base/error.h"
#include "core/formats/gguf_value_type.h"

namespace mlxr {
namespace {

constexpr int64_t kAlignment = 32;

using namespace gguf;

int64_t aligned(int64_t size) { return (size + kAlignment - 1) / kAlignment * kAlignment; }

template <class T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(T));
}

void put_string(std::string& out, const std::string& text) {
  put<uint64_t>(out, text.size());
  out += text;
}

void put_integer(std::string& out, int64_t value, uint32_t type) {
  if (type == kU32) return put(out, static_cast<uint32_t>(value));
  if (type == kI32) return put(out, static_cast<int32_t>(value));
  put(out, value);
}

uint32_t integer_type(int64_t least, int64_t most) {
  if (least >= 0 && most <= std::numeric_limits<uint32_t>::max()) return kU32;
  const bool fits =
      least >= std::numeric_limits<int32_t>::min() && most <= std::numeric_limits<int32_t>::max();
  return fits ? kI32 : kI64;
}

struct PutArray {
  std::string& out;

  void operator()(const std::vector<int64_t>& values) const {
    // Token types and the like are i32 arrays in every published file.
    const bool wide = std::any_of(values.begin(), values.end(),
                                  [](int64_t v) { return v != static_cast<int32_t>(v); });
    const uint32_t type = wide ? kI64 : kI32;
    put(out, type);
    put<uint64_t>(out, values.size());
    for (int64_t value : values) put_integer(out, value, type);
  }
  void operator()(const std::vector<double>& values) const {
    put<uint32_t>(out, kF32);
    put<uint64_t>(out, values.size());
    for (double value : values) put(out, static_cast<float>(value));
  }
  void operator()(const std::vector<std::string>& values) const {
    put<uint32_t>(out, kString);
    put<uint64_t>(out, values.size());
    for (const std::string& value : values) put_string(out, value);
  }
};

struct PutValue {
  std::string& out;

  void operator()(int64_t value) const {
    const uint32_t type = integer_type(value, value);
    put(out, type);
    put_integer(out, value, type);
  }
  void operator()(double value) const {
    put<uint32_t>(out, kF32);
    put(out, static_cast<float>(value));
  }
  void operator()(bool value) const {
    put<uint32_t>(out, kBool);
    put<uint8_t>(out, value ? 1 : 0);
  }
  void operator()(const std::string& value) const {
    put<uint32_t>(out, kString);
    put_string(out, value);
  }
  void operator()(const GgufArray& value) const {
    put<uint32_t>(out, kArray);
    std::visit(PutArray{out}, value);
  }
};

}  // namespace

int64_t GgufWriter::Tensor::bytes() const {
  const int64_t elements =
      std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
  return row_bytes(format, elements);
}

void GgufWriter::add(const std::string& key, GgufValue value) {
  metadata_.emplace_back(key, std::move(value));
}

void GgufWriter::add_tensor(const std::string& name, QuantFormat format, std::vector<int64_t> shape,
                            std::function<void(std::span<std::byte> out)> produce) {
  tensors_.push_back({name, format, std::move(shape), std::move(produce)});
}

std::string GgufWriter::header() const {
  std::string out = "GGUF";
  put<uint32_t>(out, 3);
  put<uint64_t>(out, tensors_.size());
  put<uint64_t>(out, metadata_.size());
  for (const auto& [key, value] : metadata_) {
    put_string(out, key);
    std::visit(PutValue{out}, value);
  }
  int64_t offset = 0;
  for (const Tensor& tensor : tensors_) {
    put_string(out, tensor.name);
    put(out, static_cast<uint32_t>(tensor.shape.size()));
    for (auto d = tensor.shape.rbegin(); d != tensor.shape.rend(); ++d) {
      put(out, static_cast<uint64_t>(*d));
    }
    put(out, static_cast<uint32_t>(info(tensor.format).gguf_type));
    put(out, static_cast<uint64_t>(offset));
    offset += aligned(tensor.bytes());
  }
  out.resize(static_cast<size_t>(aligned(static_cast<int64_t>(out.size()))));
  return out;
}

void GgufWriter::write(const std::filesystem::path& path) const {
  const std::filesystem::path temporary = path.string() + ".tmp." + std::to_string(::getpid());
  std::error_code ignored;
  try {
    std::ofstream file(temporary, std::ios::binary | std::ios::trunc);
    const std::string head = header();
    file.write(head.data(), static_cast<std::streamsize>(head.size()));
    std::vector<std::byte> buffer;
    for (const Tensor& tensor : tensors_) {
      buffer.assign(static_cast<size_t>(aligned(tensor.bytes())), std::byte{0});
      tensor.produce(std::span(buffer).first(static_cast<size_t>(tensor.bytes())));
      file.write(reinterpret_cast<const char*>(buffer.data()),
                 static_cast<std::streamsize>(buffer.size()));
      if (!file) break;
    }
    file.flush();
    if (!file) {
      throw Error(ErrorCode::kIo, "cannot write " + temporary.string() +
                                      ": check the folder's permissions and free space");
    }
  } catch (...) {
    std::filesystem::remove(temporary, ignored);
    throw;
  }
  std::filesystem::rename(temporary, path);
}

}  // namespace mlxr
