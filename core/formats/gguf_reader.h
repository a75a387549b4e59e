// Reads GGUF files (versions 2 and 3, little-endian) in place. No length field is trusted: every
// count and offset is checked against the file before it is used.
// Source: the GGUF specification, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/base/mapped_file.h"
#include "core/formats/weight_view.h"

namespace mlxr {

// A metadata value. Integers of every width become int64_t (uint64_t values above its range are
// refused), floats become double.
using GgufArray = std::variant<std::vector<int64_t>, std::vector<double>, std::vector<std::string>>;
using GgufValue = std::variant<int64_t, double, bool, std::string, GgufArray>;

class GgufFile {
 public:
  // Throws Error{kCorruptFile} naming the file and what is wrong in it, Error{kUnsupported} for a
  // version that this build does not read.
  static std::shared_ptr<const GgufFile> open(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return file_->path(); }
  const std::map<std::string, GgufValue>& metadata() const { return metadata_; }

  const std::shared_ptr<const MappedFile>& file() const { return file_; }

  // Absent keys give nullopt; a key of another type throws Error{kCorruptFile} naming it.
  std::optional<int64_t> integer(const std::string& key) const;
  std::optional<double> number(const std::string& key) const;
  std::optional<bool> boolean(const std::string& key) const;
  std::optional<std::string> text(const std::string& key) const;
  const GgufArray* array(const std::string& key) const;

  // Tensors in file order. Those of a type outside the QuantFormat table are listed by
  // unsupported_tensors() and have no view.
  const std::vector<WeightView>& tensors() const { return tensors_; }
  const WeightView* find(std::string_view name) const;
  struct UnsupportedTensor {
    std::string name;
    uint32_t type;
  };
  const std::vector<UnsupportedTensor>& unsupported_tensors() const { return unsupported_; }

 private:
  friend class GgufParser;
  std::shared_ptr<const MappedFile> file_;
  std::map<std::string, GgufValue> metadata_;
  std::vector<WeightView> tensors_;
  std::map<std::string, size_t, std::less<>> index_;
  std::vector<UnsupportedTensor> unsupported_;
};

}  // namespace mlxr
