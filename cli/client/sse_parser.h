// Server-sent events, as pieces of an HTTP body arrive.
#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace mlxr::cli {

class SseParser {
 public:
  // Called with the data of each complete event (lines joined by newlines).
  explicit SseParser(std::function<void(const std::string& data)> on_event)
      : on_event_(std::move(on_event)) {}
  void feed(std::string_view bytes);

 private:
  void take_line(std::string_view line);

  std::function<void(const std::string&)> on_event_;
  std::string partial_;  // of the last line
  std::string data_;
  bool has_data_ = false;
};

}  // namespace mlxr::cli
