// A line from the user: editing and history on a terminal (libedit), plain lines otherwise.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

namespace mlxr::cli {

class LineEditor {
 public:
  enum class Result { kLine, kCancelled, kEnd };

  // The history is read from and kept in `history_file` (mode 0600).
  explicit LineEditor(std::filesystem::path history_file);
  ~LineEditor();

  // kCancelled: Ctrl-C; the line is thrown away. kEnd: Ctrl-D or the end of input.
  Result read(const std::string& prompt, std::string& line);
  void remember(const std::string& text);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mlxr::cli
