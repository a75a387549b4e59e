// A tag an argument, its value as bare text that the tool's schema gives a type: Qwen3-Coder and
// GLM.
#include <utility>

#include <nlohmann/json.hpp>

#include "core/runtime/chat/tag_finder.h"
#include "core/runtime/chat/tool_parsers/call_writer.h"
#include "core/runtime/chat/tool_parsers/parsers.h"

namespace mlxr {
namespace {

struct TaggedArgumentsFormat {
  std::string before_name, after_name;  // after_name may be empty: the name ends where a tag begins
  std::string before_key, after_key;    // round an argument's name
  std::string before_value, after_value;  // before_value may be empty
};

const std::string kOpen = "<tool_call>";
const std::string kClose = "</tool_call>";

class TaggedArgumentsParser : public TextParser {
 public:
  TaggedArgumentsParser(TaggedArgumentsFormat format, ToolSchemas schemas)
      : format_(std::move(format)), schemas_(std::move(schemas)) {}

  void push(std::string_view text, ChatEvents& out) override {
    buffer_ += text;
    while (step(out)) {
    }
  }

  void finish(ChatEvents& out) override {
    if (state_ == State::kText) {
      writer_.text(std::exchange(buffer_, {}), out);
    } else if (state_ == State::kName && writer_.calls() == 0) {
      writer_.text(kOpen + std::exchange(buffer_, {}), out);
    }
    end_call(out);
    writer_.finish(out);
  }

 private:
  enum class State { kText, kName, kArguments, kValue };

  bool step(ChatEvents& out) {
    switch (state_) {
      case State::kText:
        return find_call(out);
      case State::kName:
        return read_name(out);
      case State::kArguments:
        return read_key(out);
      case State::kValue:
        return read_value(out);
    }
    return false;
  }

  bool find_call(ChatEvents& out) {
    std::optional<FoundTag> found;
    const std::string before = take_before_tag(buffer_, {kOpen}, found);
    if (!before.empty()) writer_.text(before, out);
    if (found) state_ = State::kName;
    return found.has_value();
  }

  bool read_name(ChatEvents& out) {
    size_t begin = 0;
    if (!format_.before_name.empty()) {
      begin = buffer_.find(format_.before_name);
      if (begin == std::string::npos) return false;
      begin += format_.before_name.size();
    }
    const std::string& stop = format_.after_name.empty() ? format_.before_key : format_.after_name;
    const auto end = find_tag(std::string_view(buffer_).substr(begin), {stop, kClose});
    if (!end) return false;
    name_ = std::string(trimmed(std::string_view(buffer_).substr(begin, end->begin)));
    if (name_.empty()) {  // nothing can be called so
      const size_t taken = begin + end->begin;
      writer_.text(kOpen + buffer_.substr(0, taken), out);
      buffer_.erase(0, taken);
      state_ = State::kText;
      return true;
    }
    writer_.begin(name_, out);
    object_begun_ = false;
    const bool takes_tag = end->tag == 0 && !format_.after_name.empty();
    buffer_.erase(0, begin + end->begin + (takes_tag ? stop.size() : 0));
    state_ = State::kArguments;
    return true;
  }

  bool read_key(ChatEvents& out) {
    const auto found = find_tag(buffer_, {format_.before_key, kClose});
    if (!found) return false;
    if (found->tag == 1) {
      buffer_.erase(0, found->begin + kClose.size());
      end_call(out);
      state_ = State::kText;
      return true;
    }
    const size_t begin = found->begin + format_.before_key.size();
    const size_t end = buffer_.find(format_.after_key, begin);
    if (end == std::string::npos) return false;
    key_ = std::string(trimmed(std::string_view(buffer_).substr(begin, end - begin)));
    buffer_.erase(0, end + format_.after_key.size());
    state_ = State::kValue;
    return true;
  }

  bool read_value(ChatEvents& out) {
    size_t begin = 0;
    if (!format_.before_value.empty()) {
      begin = buffer_.find(format_.before_value);
      if (begin == std::string::npos) return false;
      begin += format_.before_value.size();
    }
    const size_t end = buffer_.find(format_.after_value, begin);
    if (end == std::string::npos) return false;
    std::string value = buffer_.substr(begin, end - begin);
    // The line breaks round a value are the format's.
    if (format_.before_value.empty() && value.starts_with('\n')) value.erase(0, 1);
    if (format_.before_value.empty() && value.ends_with('\n')) value.pop_back();
    write_argument(value, out);
    buffer_.erase(0, end + format_.after_value.size());
    state_ = State::kArguments;
    return true;
  }

  void write_argument(const std::string& value, ChatEvents& out) {
    const std::string key =
        nlohmann::json(key_).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    writer_.arguments((object_begun_ ? "," : "{") + key + ":" + schemas_.typed(name_, key_, value),
                      out);
    object_begun_ = true;
  }

  void end_call(ChatEvents& out) {
    if (object_begun_ && writer_.open()) writer_.arguments("}", out);
    writer_.end(out);
  }

  TaggedArgumentsFormat format_;
  ToolSchemas schemas_;
  State state_ = State::kText;
  std::string buffer_, name_, key_;
  CallWriter writer_;
  bool object_begun_ = false;
};

}  // namespace

std::unique_ptr<TextParser> qwen_xml_parser(ToolSchemas schemas) {
  return std::make_unique<TaggedArgumentsParser>(
      TaggedArgumentsFormat{"<function=", ">", "<parameter=", ">", "", "</parameter>"},
      std::move(schemas));
}

std::unique_ptr<TextParser> glm_parser(ToolSchemas schemas) {
  return std::make_unique<TaggedArgumentsParser>(
      TaggedArgumentsFormat{"", "", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"},
      std::move(schemas));
}

}  // namespace mlxr
