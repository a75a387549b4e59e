// call:NAME{key:<escape>text<escape>,list:[1,2]}: FunctionGemma and Gemma 4, which differ in their
// marks.
#include <cctype>
#include <optional>
#include <utility>

#include <nlohmann/json.hpp>

#include "core/runtime/chat/tag_finder.h"
#include "core/runtime/chat/tool_parsers/call_writer.h"
#include "core/runtime/chat/tool_parsers/parsers.h"

namespace mlxr {
namespace {

using Json = nlohmann::ordered_json;
constexpr int kMaxGemmaDepth = 64;
constexpr std::string_view kCall = "call:";

// Values as Gemma writes them: strings between marks, keys bare.
class GemmaReader {
 public:
  GemmaReader(std::string_view text, std::string_view quote) : text_(text), quote_(quote) {}

  std::optional<Json> value(int depth = 0) {
    skip_space();
    if (at_ >= text_.size() || depth > kMaxGemmaDepth) return std::nullopt;
    if (starts_with(quote_)) return quoted();
    if (text_[at_] == '{') return object(depth);
    if (text_[at_] == '[') return array(depth);
    return bare();
  }

 private:
  bool starts_with(std::string_view what) const { return text_.substr(at_).starts_with(what); }
  void skip_space() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_])) != 0) ++at_;
  }
  bool accept(char c) {
    skip_space();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  std::optional<Json> quoted() {
    at_ += quote_.size();
    const size_t end = text_.find(quote_, at_);
    if (end == std::string_view::npos) return std::nullopt;
    Json text(std::string(text_.substr(at_, end - at_)));
    at_ = end + quote_.size();
    return text;
  }

  std::optional<Json> object(int depth) {
    ++at_;
    Json members = Json::object();
    while (!accept('}')) {
      std::string key;
      skip_space();
      if (starts_with(quote_)) {
        const auto text = quoted();
        if (!text) return std::nullopt;
        key = text->get<std::string>();
      } else {
        const size_t end = text_.find(':', at_);
        if (end == std::string_view::npos) return std::nullopt;
        key = std::string(trimmed(text_.substr(at_, end - at_)));
        at_ = end;
      }
      if (!accept(':')) return std::nullopt;
      std::optional<Json> item = value(depth + 1);
      if (!item) return std::nullopt;
      members[key] = std::move(*item);
      if (!accept(',') && (at_ >= text_.size() || text_[at_] != '}')) return std::nullopt;
    }
    return members;
  }

  std::optional<Json> array(int depth) {
    ++at_;
    Json items = Json::array();
    while (!accept(']')) {
      std::optional<Json> item = value(depth + 1);
      if (!item) return std::nullopt;
      items.push_back(std::move(*item));
      if (!accept(',') && (at_ >= text_.size() || text_[at_] != ']')) return std::nullopt;
    }
    return items;
  }

  Json bare() {
    const size_t end = std::min(text_.find_first_of(",}]", at_), text_.size());
    const std::string word(trimmed(text_.substr(at_, end - at_)));
    at_ = end;
    Json value = Json::parse(word, nullptr, false);
    return value.is_discarded() ? Json(word) : value;
  }

  std::string_view text_, quote_;
  size_t at_ = 0;
};

class GemmaParser : public TextParser {
 public:
  explicit GemmaParser(GemmaMarks marks) : marks_(std::move(marks)) {}

  void push(std::string_view text, ChatEvents& out) override {
    buffer_ += text;
    while (step(out)) {
    }
  }

  void finish(ChatEvents& out) override {
    if (!in_call_) writer_.text(std::exchange(buffer_, {}), out);
    if (in_call_) write_call(std::exchange(buffer_, {}), "", out);
    writer_.finish(out);
  }

 private:
  bool step(ChatEvents& out) {
    std::optional<FoundTag> found;
    if (in_call_) {
      const size_t close = buffer_.find(marks_.close);
      if (close == std::string::npos) return false;
      write_call(buffer_.substr(0, close), marks_.close, out);
      buffer_.erase(0, close + marks_.close.size());
      in_call_ = false;
      return true;
    }
    const std::string before = take_before_tag(buffer_, {marks_.open}, found);
    if (!before.empty()) writer_.text(before, out);
    in_call_ = found.has_value();
    return in_call_;
  }

  // `close`: the mark that ended it; what is no call is given back whole.
  void write_call(const std::string& text, const std::string& close, ChatEvents& out) {
    const std::string_view body = trimmed(text);
    const size_t brace = body.find('{');
    const bool called = body.starts_with(kCall) && brace != std::string_view::npos;
    if (!called || trimmed(body.substr(kCall.size(), brace - kCall.size())).empty()) {
      writer_.text(marks_.open + text + close, out);
      return;
    }
    const auto arguments = GemmaReader(body.substr(brace), marks_.quote).value();
    const bool whole = arguments && arguments->is_object();
    writer_.whole(body.substr(kCall.size(), brace - kCall.size()),
                  whole ? arguments->dump(-1, ' ', false, Json::error_handler_t::replace) : "{}",
                  out);
  }

  GemmaMarks marks_;
  std::string buffer_;
  bool in_call_ = false;
  CallWriter writer_;
};

}  // namespace

std::unique_ptr<TextParser> gemma_parser(GemmaMarks marks) {
  return std::make_unique<GemmaParser>(std::move(marks));
}

}  // namespace mlxr
