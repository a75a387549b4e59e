#include "core/runtime/chat/tool_parsers/typed_arguments.h"

#include <utility>

namespace mlxr {
namespace {

using Json = nlohmann::ordered_json;

std::string text_of(const std::string& quoted) {
  const Json value = Json::parse(quoted, nullptr, false);
  return value.is_string() ? value.get<std::string>() : "";
}

// One call's arguments: JSON without white space, in fragments that may be cut anywhere.
class TypedObject {
 public:
  TypedObject(const ToolSchemas* schemas, std::string function)
      : schemas_(schemas), function_(std::move(function)) {}

  std::string feed(std::string_view json) {
    std::string out;
    for (const char c : json) {
      if (in_string_) {
        take_in_string(c, out);
      } else {
        take(c, out);
      }
    }
    return out;
  }

 private:
  void take(char c, std::string& out) {
    if (c == '"') {
      in_string_ = true;
      string_.assign(1, c);
      holds_ = depth_ == 1 && !at_key_ && schemas_->wants_no_string(function_, key_);
      if (!holds_) out += c;
      return;
    }
    depth_ += c == '{' || c == '[' ? 1 : c == '}' || c == ']' ? -1 : 0;
    if (depth_ == 1) at_key_ = c == ',' || c == '{' || (at_key_ && c != ':');
    out += c;
  }

  void take_in_string(char c, std::string& out) {
    string_ += c;
    if (!holds_) out += c;
    if (std::exchange(escaped_, !escaped_ && c == '\\') || c != '"') return;
    in_string_ = false;
    if (depth_ == 1 && at_key_) key_ = text_of(string_);
    if (holds_) out += typed();
  }

  std::string typed() const {
    const std::string value = schemas_->typed(function_, key_, text_of(string_));
    return value.front() == '"' ? string_ : value;
  }

  const ToolSchemas* schemas_;
  std::string function_, key_, string_;
  int depth_ = 0;
  bool at_key_ = false, in_string_ = false, escaped_ = false;
  bool holds_ = false;  // the string is an argument that should be something else
};

class TypedArguments : public TextParser {
 public:
  TypedArguments(std::unique_ptr<TextParser> parser, ToolSchemas schemas)
      : parser_(std::move(parser)), schemas_(std::move(schemas)), object_(&schemas_, "") {}

  void push(std::string_view text, ChatEvents& out) override {
    ChatEvents events;
    parser_->push(text, events);
    pass(events, out);
  }

  void finish(ChatEvents& out) override {
    ChatEvents events;
    parser_->finish(events);
    pass(events, out);
  }

 private:
  void pass(ChatEvents& events, ChatEvents& out) {
    for (ChatEvent& event : events) {
      if (event.kind == ChatEvent::Kind::kCall) {
        object_ = TypedObject(&schemas_, event.text);
      } else if (event.kind == ChatEvent::Kind::kArguments) {
        event.text = object_.feed(event.text);
        if (event.text.empty()) continue;
      }
      out.push_back(std::move(event));
    }
  }

  std::unique_ptr<TextParser> parser_;
  ToolSchemas schemas_;
  TypedObject object_;
};

}  // namespace

std::unique_ptr<TextParser> with_typed_arguments(std::unique_ptr<TextParser> parser,
                                                 ToolSchemas schemas) {
  return std::make_unique<TypedArguments>(std::move(parser), std::move(schemas));
}

}  // namespace mlxr
