// A mark, the function's name, a separator, its arguments as JSON: Mistral and DeepSeek.
#include <utility>

#include "core/runtime/chat/tag_finder.h"
#include "core/runtime/chat/tool_parsers/json_call_reader.h"
#include "core/runtime/chat/tool_parsers/parsers.h"

namespace mlxr {
namespace {

struct NamedJsonFormat {
  std::vector<std::string> open;        // before a call
  std::vector<std::string> after_name;  // between name and arguments; '{' ends a name as well
  std::vector<std::string> ignored;     // marks that mean nothing to a client
  bool array_may_follow = false;        // after `open`: an array of whole calls
  bool kind_first = false;              // the name may be "function", the real one on the next line
};

class NamedJsonParser : public TextParser {
 public:
  explicit NamedJsonParser(NamedJsonFormat format) : format_(std::move(format)) {
    tags_ = format_.open;
    tags_.insert(tags_.end(), format_.ignored.begin(), format_.ignored.end());
  }

  void push(std::string_view text, ChatEvents& out) override {
    buffer_ += text;
    while (step(out)) {
    }
  }

  void finish(ChatEvents& out) override {
    // What never became a call is text.
    if (state_ == State::kArray && writer_.calls() == calls_at_open_) {
      writer_.text(reader_.raw(), out);
      state_ = State::kText;
    }
    if (state_ == State::kText || state_ == State::kHead) {
      writer_.text(std::exchange(buffer_, {}), out);
    }
    writer_.finish(out);
  }

 private:
  // kText: before the first call; kBetween: after one, where only marks and noise follow.
  enum class State { kText, kBetween, kHead, kArguments, kArray };

  bool step(ChatEvents& out) {
    switch (state_) {
      case State::kText:
      case State::kBetween:
        return find_call(out);
      case State::kHead:
        return read_head(out);
      case State::kArguments:
        return read_arguments(out);
      case State::kArray:
        return read_array(out);
    }
    return false;
  }

  bool find_call(ChatEvents& out) {
    std::optional<FoundTag> found;
    const std::string before = take_before_tag(buffer_, tags_, found);
    if (state_ == State::kText && !before.empty()) writer_.text(before, out);
    if (!found) return false;
    if (found->tag < format_.open.size()) {
      state_ = State::kHead;
      calls_at_open_ = writer_.calls();
    }
    return true;
  }

  bool read_head(ChatEvents& out) {
    const std::string_view head = trimmed(buffer_);
    if (head.empty() || may_become_separator(head)) return false;
    if (format_.array_may_follow && head.front() == '[' && !is_separator_start(head)) {
      reader_ = JsonCallReader();
      state_ = State::kArray;
      return true;
    }
    const size_t brace = buffer_.find('{');
    if (brace == std::string::npos) return false;
    const std::string name = name_in(buffer_.substr(0, brace));
    if (trimmed(name).empty()) {  // nothing can be called so
      writer_.text(buffer_.substr(0, brace + 1), out);
      buffer_.erase(0, brace + 1);
      state_ = State::kText;
      return true;
    }
    writer_.begin(name, out);
    buffer_.erase(0, brace);
    state_ = State::kArguments;
    return true;
  }

  bool may_become_separator(std::string_view head) const {
    for (const std::string& tag : format_.after_name) {
      if (head.size() < tag.size() && tag.starts_with(head)) return true;
    }
    return false;
  }

  bool is_separator_start(std::string_view head) const {
    for (const std::string& tag : format_.after_name) {
      if (head.starts_with(tag)) return true;
    }
    return false;
  }

  std::string name_in(const std::string& head) const {
    const auto separator = find_tag(head, format_.after_name);
    if (!separator) return head;
    const std::string before(trimmed(std::string_view(head).substr(0, separator->begin)));
    if (!format_.kind_first || before != "function") return before;
    const std::string rest =
        head.substr(separator->begin + format_.after_name[separator->tag].size());
    return rest.substr(0, rest.find('\n'));
  }

  bool read_arguments(ChatEvents& out) {
    if (buffer_.empty()) return false;
    buffer_.erase(0, writer_.arguments(buffer_, out));
    if (!writer_.arguments_done()) return false;
    writer_.end(out);
    state_ = State::kBetween;
    return true;
  }

  bool read_array(ChatEvents& out) {
    if (buffer_.empty()) return false;
    buffer_.erase(0, reader_.push(buffer_, writer_, out));
    if (!reader_.done() && !reader_.broken()) return false;
    if (writer_.calls() == calls_at_open_) {  // broken, or empty: no call
      writer_.text(reader_.raw(), out);
      state_ = State::kText;
      return true;
    }
    writer_.end(out);
    state_ = State::kBetween;
    return true;
  }

  NamedJsonFormat format_;
  std::vector<std::string> tags_;
  State state_ = State::kText;
  std::string buffer_;
  JsonCallReader reader_;
  CallWriter writer_;
  int calls_at_open_ = 0;
};

}  // namespace

std::unique_ptr<TextParser> mistral_parser() {
  NamedJsonFormat format;
  format.open = {"[TOOL_CALLS]"};
  format.after_name = {"[ARGS]", "[CALL_ID]"};
  format.array_may_follow = true;
  return std::make_unique<NamedJsonParser>(std::move(format));
}

std::unique_ptr<TextParser> deepseek_parser() {
  NamedJsonFormat format;
  format.open = {"<｜tool▁call▁begin｜>"};
  format.after_name = {"<｜tool▁sep｜>"};
  format.ignored = {"<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", "<｜tool▁call▁end｜>",
                    "<｜end▁of▁sentence｜>"};
  format.kind_first = true;
  return std::make_unique<NamedJsonParser>(std::move(format));
}

}  // namespace mlxr
