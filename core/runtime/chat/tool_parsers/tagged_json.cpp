#include "core/runtime/chat/tool_parsers/tagged_json.h"

#include <utility>

#include "core/runtime/chat/tag_finder.h"
#include "core/runtime/chat/tool_parsers/json_call_reader.h"

namespace mlxr {
namespace {

class TaggedJsonParser : public TextParser {
 public:
  explicit TaggedJsonParser(TaggedJsonFormat format) : format_(std::move(format)) {
    outside_ = format_.open;
    outside_.insert(outside_.end(), format_.dropped.begin(), format_.dropped.end());
  }

  void push(std::string_view text, ChatEvents& out) override {
    buffer_ += text;
    while (step(out)) {
    }
  }

  void finish(ChatEvents& out) override {
    if (state_ == State::kText) {
      writer_.text(std::exchange(buffer_, {}), out);
    } else if (state_ == State::kCall && !writer_.open() && calls_at_open_ == writer_.calls()) {
      writer_.text(opened_ + reader_.raw() + std::exchange(buffer_, {}), out);
    }
    writer_.finish(out);
  }

 private:
  enum class State { kText, kCall, kAfterCall };

  // True when it got on and there may be more to do.
  bool step(ChatEvents& out) {
    switch (state_) {
      case State::kText:
        return read_text(out);
      case State::kCall:
        return read_call(out);
      case State::kAfterCall:
        return find_close();
    }
    return false;
  }

  bool read_text(ChatEvents& out) {
    std::optional<FoundTag> found;
    const std::string before = take_before_tag(buffer_, outside_, found);
    if (!before.empty()) writer_.text(before, out);
    if (!found) return false;
    if (found->tag < format_.open.size()) {
      opened_ = format_.open[found->tag];
      begin_call();
      calls_at_open_ = writer_.calls();
    }
    return true;
  }

  void begin_call() {
    reader_ = JsonCallReader();
    state_ = State::kCall;
  }

  bool read_call(ChatEvents& out) {
    buffer_.erase(0, reader_.push(buffer_, writer_, out));
    if (reader_.done() && writer_.calls() > calls_at_open_) {
      state_ = State::kAfterCall;
      return true;
    }
    if (!reader_.done() && !reader_.broken()) return false;
    if (writer_.calls() > calls_at_open_) {
      writer_.end(out);
      state_ = State::kAfterCall;
    } else {
      // No call after all: what was read is text.
      writer_.text(opened_ + reader_.raw(), out);
      state_ = State::kText;
    }
    return true;
  }

  // Up to the closing mark; a second object before it is a second call.
  bool find_close() {
    const size_t object = buffer_.find('{');
    const size_t close = format_.close.empty() ? std::string::npos : buffer_.find(format_.close);
    if (object < close) {
      buffer_.erase(0, object);
      begin_call();
      return true;
    }
    if (close != std::string::npos) {
      buffer_.erase(0, close + format_.close.size());
      state_ = State::kText;
      return true;
    }
    const size_t kept = format_.close.empty() ? 0 : partial_tag(buffer_, {format_.close});
    buffer_.erase(0, buffer_.size() - kept);
    return false;
  }

  TaggedJsonFormat format_;
  std::vector<std::string> outside_;
  State state_ = State::kText;
  std::string buffer_, opened_;
  JsonCallReader reader_;
  CallWriter writer_;
  int calls_at_open_ = 0;
};

}  // namespace

std::unique_ptr<TextParser> tagged_json_parser(TaggedJsonFormat format) {
  return std::make_unique<TaggedJsonParser>(std::move(format));
}

}  // namespace mlxr
