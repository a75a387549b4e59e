// Llama 3.x: the answer is a call object and nothing else, so only what is one is taken for it.
#include <optional>
#include <utility>

#include "core/runtime/chat/tag_finder.h"
#include "core/runtime/chat/tool_parsers/json_call_reader.h"
#include "core/runtime/chat/tool_parsers/parsers.h"

namespace mlxr {
namespace {

constexpr std::string_view kMark = "<|python_tag|>";

class BareJsonParser : public TextParser {
 public:
  explicit BareJsonParser(std::set<std::string> names) : names_(std::move(names)) {}

  void push(std::string_view text, ChatEvents& out) override {
    buffer_ += text;
    while (step(out)) {
    }
  }

  void finish(ChatEvents& out) override {
    if (reader_ && writer_.calls() == calls_at_begin_) give_back(out);
    writer_.text(std::exchange(buffer_, {}), out);
    writer_.finish(out);
  }

 private:
  bool step(ChatEvents& out) {
    if (is_text_) {
      if (!buffer_.empty()) writer_.text(std::exchange(buffer_, {}), out);
      return false;
    }
    return reader_ ? read_call(out) : begin(out);
  }

  bool begin(ChatEvents& out) {
    const size_t start = buffer_.find_first_not_of(" \t\r\n;");
    if (start == std::string::npos) return false;
    const std::string_view rest = std::string_view(buffer_).substr(start);
    if (rest.size() < kMark.size() && kMark.starts_with(rest)) return false;
    if (rest.starts_with(kMark)) {
      if (writer_.calls() == 0) writer_.text(buffer_.substr(0, start), out);
      buffer_.erase(0, start + kMark.size());
    } else if (rest.front() == '{' || (rest.front() == '[' && writer_.calls() == 0)) {
      reader_.emplace(names_);
      calls_at_begin_ = writer_.calls();
      if (writer_.calls() == 0) writer_.text(buffer_.substr(0, start), out);
      buffer_.erase(0, start);
    } else {
      is_text_ = true;
    }
    return true;
  }

  bool read_call(ChatEvents& out) {
    buffer_.erase(0, reader_->push(buffer_, writer_, out));
    if (!reader_->done() && !reader_->broken()) return false;
    const bool called = writer_.calls() > calls_at_begin_;
    if (reader_->broken() && called) writer_.end(out);
    if (!called) give_back(out);  // also an empty list
    is_text_ = reader_->broken() || !called;
    reader_.reset();
    return true;
  }

  void give_back(ChatEvents& out) { writer_.text(reader_->raw(), out); }

  std::set<std::string> names_;
  std::string buffer_;
  std::optional<JsonCallReader> reader_;
  CallWriter writer_;
  int calls_at_begin_ = 0;  // of the value that is being read
  bool is_text_ = false;
};

}  // namespace

std::unique_ptr<TextParser> bare_json_parser(std::set<std::string> names) {
  return std::make_unique<BareJsonParser>(std::move(names));
}

}  // namespace mlxr
