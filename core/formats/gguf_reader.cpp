#include "core/formats/gguf_reader.h"

#include <cstring>
#include <limits>

#include "core/base/error.h"
#include "core/formats/gguf_value_type.h"

namespace mlxr {
namespace {

constexpr uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr uint64_t kMaxDimensions = 4;
constexpr uint64_t kDefaultAlignment = 32;

using namespace gguf;

size_t scalar_size(uint32_t type) {
  switch (type) {
    case kU8:
    case kI8:
    case kBool:
      return 1;
    case kU16:
    case kI16:
      return 2;
    case kU32:
    case kI32:
    case kF32:
      return 4;
    case kU64:
    case kI64:
    case kF64:
      return 8;
    default:
      return 0;
  }
}

}  // namespace

// Walks the header front to back; `at_` never passes the end of the file.
class GgufParser {
 public:
  explicit GgufParser(std::shared_ptr<const MappedFile> file)
      : bytes_(file->bytes()), out_(std::make_shared<GgufFile>()) {
    out_->file_ = std::move(file);
  }

  std::shared_ptr<const GgufFile> parse() {
    if (bytes_.size() < 4 || scalar<uint32_t>("the magic number") != kMagic) {
      fail("does not start with \"GGUF\": it is not a GGUF file");
    }
    const auto version = scalar<uint32_t>("the version");
    if (version != 2 && version != 3) {
      throw Error(ErrorCode::kUnsupported, out_->path().string() + " is GGUF version " +
                                               std::to_string(version) +
                                               "; versions 2 and 3 can be read");
    }
    const auto tensor_count = scalar<uint64_t>("the tensor count");
    const auto metadata_count = scalar<uint64_t>("the metadata count");
    for (uint64_t i = 0; i < metadata_count; ++i) read_metadata_entry();
    read_tensors(tensor_count);
    return out_;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(ErrorCode::kCorruptFile,
                out_->path().string() + " " + what + " (at byte " + std::to_string(at_) + " of " +
                    std::to_string(bytes_.size()) + "); download or copy it again");
  }

  const std::byte* take(uint64_t count, const char* what) {
    if (count > bytes_.size() - at_) fail(std::string("is truncated inside ") + what);
    const std::byte* data = bytes_.data() + at_;
    at_ += count;
    return data;
  }

  template <class T>
  T scalar(const char* what) {
    T value;
    std::memcpy(&value, take(sizeof(T), what), sizeof(T));
    return value;
  }

  std::string string(const char* what) {
    const auto length = scalar<uint64_t>(what);
    const std::byte* data = take(length, what);
    return std::string(reinterpret_cast<const char*>(data), length);
  }

  int64_t integer(uint32_t type) {
    switch (type) {
      case kU8:
        return scalar<uint8_t>("a value");
      case kI8:
        return scalar<int8_t>("a value");
      case kU16:
        return scalar<uint16_t>("a value");
      case kI16:
        return scalar<int16_t>("a value");
      case kU32:
        return scalar<uint32_t>("a value");
      case kI32:
        return scalar<int32_t>("a value");
      case kI64:
        return scalar<int64_t>("a value");
      case kBool:
        return scalar<uint8_t>("a value") != 0;
      default: {
        const auto value = scalar<uint64_t>("a value");
        if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
          fail("holds an integer that is out of range");
        }
        return static_cast<int64_t>(value);
      }
    }
  }

  double number(uint32_t type) {
    return type == kF32 ? static_cast<double>(scalar<float>("a value")) : scalar<double>("a value");
  }

  GgufArray array() {
    const auto type = scalar<uint32_t>("an array's type");
    const auto count = scalar<uint64_t>("an array's length");
    // The smallest element of a type bounds how many can follow, before anything is allocated.
    const uint64_t least = type == kString ? 8 : scalar_size(type);
    if (least == 0) fail("has an array of an unknown or nested type " + std::to_string(type));
    if (count > (bytes_.size() - at_) / least) fail("is truncated inside an array");
    if (type == kString) {
      std::vector<std::string> values;
      values.reserve(count);
      for (uint64_t i = 0; i < count; ++i) values.push_back(string("an array's string"));
      return values;
    }
    if (type == kF32 || type == kF64) {
      std::vector<double> values(count);
      for (double& value : values) value = number(type);
      return values;
    }
    std::vector<int64_t> values(count);
    for (int64_t& value : values) value = integer(type);
    return values;
  }

  void read_metadata_entry() {
    std::string key = string("a metadata key");
    const auto type = scalar<uint32_t>("a metadata type");
    GgufValue value;
    if (type == kString) {
      value = string("a metadata string");
    } else if (type == kArray) {
      value = array();
    } else if (type == kBool) {
      value = integer(kBool) != 0;
    } else if (type == kF32 || type == kF64) {
      value = number(type);
    } else if (scalar_size(type) != 0) {
      value = integer(type);
    } else {
      fail("has metadata \"" + key + "\" of unknown type " + std::to_string(type));
    }
    out_->metadata_.insert_or_assign(std::move(key), std::move(value));
  }

  struct Info {
    std::string name;
    std::vector<int64_t> shape;
    uint32_t type;
    uint64_t offset;
  };

  Info read_tensor_info() {
    Info info;
    info.name = string("a tensor's name");
    const auto dimensions = scalar<uint32_t>("a tensor's rank");
    if (dimensions > kMaxDimensions) {
      fail("has tensor \"" + info.name + "\" of " + std::to_string(dimensions) + " dimensions");
    }
    uint64_t elements = 1;
    for (uint32_t d = 0; d < dimensions; ++d) {
      const auto size = scalar<uint64_t>("a tensor's shape");
      if (size == 0 || size > (uint64_t{1} << 40) / elements) {
        fail("has tensor \"" + info.name + "\" of an impossible shape");
      }
      elements *= size;
      info.shape.insert(info.shape.begin(), static_cast<int64_t>(size));  // file: innermost first
    }
    info.type = scalar<uint32_t>("a tensor's type");
    info.offset = scalar<uint64_t>("a tensor's offset");
    return info;
  }

  void read_tensors(uint64_t count) {
    constexpr uint64_t kLeastInfoBytes = 8 + 4 + 4 + 8;
    if (count > (bytes_.size() - at_) / kLeastInfoBytes) fail("is truncated in its tensor list");
    std::vector<Info> infos;
    infos.reserve(count);
    for (uint64_t i = 0; i < count; ++i) infos.push_back(read_tensor_info());

    const int64_t alignment =
        out_->integer("general.alignment").value_or(static_cast<int64_t>(kDefaultAlignment));
    if (alignment <= 0 || alignment > (1 << 20) || alignment % 8 != 0) {
      fail("has an impossible general.alignment of " + std::to_string(alignment));
    }
    const auto align = static_cast<uint64_t>(alignment);
    const uint64_t data = (at_ + align - 1) / align * align;
    for (Info& info : infos) add_tensor(std::move(info), data);
  }

  void add_tensor(Info info, uint64_t data) {
    const auto format = quant_format_by_gguf_type(info.type);
    if (!format) {
      out_->unsupported_.push_back({std::move(info.name), info.type});
      return;
    }
    WeightView view;
    view.name = std::move(info.name);
    view.format = *format;
    view.shape = std::move(info.shape);
    view.owner = out_->file_;
    if (view.columns() % mlxr::info(*format).block_elements != 0) {
      fail("has tensor \"" + view.name + "\" whose rows are not whole " +
           std::string(mlxr::info(*format).name) + " blocks");
    }
    const auto size = static_cast<uint64_t>(row_bytes(*format, view.columns()) * view.rows());
    if (data > bytes_.size() || info.offset > bytes_.size() - data ||
        size > bytes_.size() - data - info.offset) {
      fail("is truncated: tensor \"" + view.name + "\" reaches past its end");
    }
    view.bytes = bytes_.subspan(data + info.offset, size);
    if (!out_->index_.emplace(view.name, out_->tensors_.size()).second) {
      fail("holds tensor \"" + view.name + "\" twice");
    }
    out_->tensors_.push_back(std::move(view));
  }

  std::span<const std::byte> bytes_;
  std::shared_ptr<GgufFile> out_;
  uint64_t at_ = 0;
};

std::shared_ptr<const GgufFile> GgufFile::open(const std::filesystem::path& path) {
  return GgufParser(MappedFile::open(path)).parse();
}

namespace {

[[noreturn]] void wrong_type(const GgufFile& file, const std::string& key, const char* wanted) {
  throw Error(ErrorCode::kCorruptFile,
              file.path().string() + " has metadata \"" + key + "\" that is not " + wanted);
}

template <class T>
const T* typed(const GgufFile& file, const std::string& key, const char* wanted) {
  const auto found = file.metadata().find(key);
  if (found == file.metadata().end()) return nullptr;
  const T* value = std::get_if<T>(&found->second);
  if (value == nullptr) wrong_type(file, key, wanted);
  return value;
}

}  // namespace

std::optional<int64_t> GgufFile::integer(const std::string& key) const {
  const auto* value = typed<int64_t>(*this, key, "an integer");
  return value ? std::optional(*value) : std::nullopt;
}

std::optional<double> GgufFile::number(const std::string& key) const {
  const auto found = metadata_.find(key);
  if (found == metadata_.end()) return std::nullopt;
  if (const auto* integer = std::get_if<int64_t>(&found->second)) {
    return static_cast<double>(*integer);
  }
  return *typed<double>(*this, key, "a number");
}

std::optional<bool> GgufFile::boolean(const std::string& key) const {
  const auto* value = typed<bool>(*this, key, "a boolean");
  return value ? std::optional(*value) : std::nullopt;
}

std::optional<std::string> GgufFile::text(const std::string& key) const {
  const auto* value = typed<std::string>(*this, key, "a string");
  return value ? std::optional(*value) : std::nullopt;
}

const GgufArray* GgufFile::array(const std::string& key) const {
  return typed<GgufArray>(*this, key, "an array");
}

const WeightView* GgufFile::find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

}  // namespace mlxr
