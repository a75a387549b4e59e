#include "core/runtime/chat/tool_parsers/python_calls.h"

#include <algorithm>
#include <cctype>
#include <optional>

#include <nlohmann/json.hpp>

namespace mlxr {
namespace {

using Json = nlohmann::ordered_json;
constexpr int kMaxDepth = 64;

bool is_name_part(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '.' || c == '-';
}

// A reader of one text. Every function returns false or nothing both for text that ends too early
// and for wrong text; `at_end` tells which.
class PythonReader {
 public:
  explicit PythonReader(std::string_view text) : text_(text) {}

  size_t position() const { return at_; }
  bool at_end() const { return at_ >= text_.size(); }

  void skip(std::string_view characters) {
    while (!at_end() && characters.find(text_[at_]) != std::string_view::npos) ++at_;
  }
  bool accept(char c) {
    skip(" \t\r\n");
    if (at_end() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  std::string name() {
    skip(" \t\r\n");
    const size_t begin = at_;
    while (!at_end() && is_name_part(text_[at_])) ++at_;
    return std::string(text_.substr(begin, at_ - begin));
  }

  std::optional<PythonCall> call(int depth = 0) {
    PythonCall call{name(), ""};
    if (call.name.empty() || depth > kMaxDepth || !accept('(')) return std::nullopt;
    if (call.name == "print") {
      auto inner = this->call(depth + 1);
      return inner && accept(')') ? inner : std::nullopt;
    }
    Json arguments = Json::object();
    while (!accept(')')) {
      const std::string key = name();
      std::optional<Json> value;
      if (!key.empty() && accept('=')) value = this->value(0);
      if (!value) return std::nullopt;
      arguments[key] = std::move(*value);
      if (!accept(',') && (at_end() || text_[at_] != ')')) return std::nullopt;
    }
    call.arguments = arguments.dump(-1, ' ', false, Json::error_handler_t::replace);
    return call;
  }

 private:
  std::optional<Json> value(int depth) {
    skip(" \t\r\n");
    if (at_end() || depth > kMaxDepth) return std::nullopt;
    const char c = text_[at_];
    if (c == '"' || c == '\'') return string();
    if (c == '[' || c == '(') return list(depth);
    if (c == '{') return dictionary(depth);
    return scalar();
  }

  // Python's escapes, and JSON's, which models mix up.
  std::optional<Json> string() {
    const char quote = text_[at_++];
    std::string value;
    while (!at_end() && text_[at_] != quote) {
      const char c = text_[at_++];
      if (c == '\\' && !at_end()) {
        escape(value);
      } else {
        value += c;
      }
    }
    if (at_end()) return std::nullopt;
    ++at_;
    return Json(value);
  }

  void escape(std::string& value) {
    const char c = text_[at_++];
    if (c == 'u') return unicode(value);
    value += c == 'n'   ? '\n'
             : c == 't' ? '\t'
             : c == 'r' ? '\r'
             : c == 'b' ? '\b'
             : c == 'f' ? '\f'
                        : c;
  }

  // The four digits after "\u", and the escape of a character's other half where one follows.
  void unicode(std::string& value) {
    for (const size_t size : {size_t{10}, size_t{4}}) {
      if (size == 10 && text_.substr(std::min(at_ + 4, text_.size()), 2) != "\\u") continue;
      const std::string escapes(text_.substr(at_, size));
      const Json character = Json::parse("\"\\u" + escapes + "\"", nullptr, false);
      if (!character.is_string()) continue;
      value += character.get<std::string>();
      at_ += escapes.size();
      return;
    }
    value += 'u';
  }

  std::optional<Json> list(int depth) {
    const char close = text_[at_++] == '[' ? ']' : ')';
    Json items = Json::array();
    while (!accept(close)) {
      std::optional<Json> item = value(depth + 1);
      if (!item) return std::nullopt;
      items.push_back(std::move(*item));
      if (!accept(',') && (at_end() || text_[at_] != close)) return std::nullopt;
    }
    return items;
  }

  std::optional<Json> dictionary(int depth) {
    ++at_;
    Json members = Json::object();
    while (!accept('}')) {
      const std::optional<Json> key = value(depth + 1);
      if (!key || !accept(':')) return std::nullopt;
      std::optional<Json> item = value(depth + 1);
      if (!item) return std::nullopt;
      members[key->is_string() ? key->get<std::string>() : key->dump()] = std::move(*item);
      if (!accept(',') && (at_end() || text_[at_] != '}')) return std::nullopt;
    }
    return members;
  }

  std::optional<Json> scalar() {
    const size_t begin = at_;
    while (!at_end() && (is_name_part(text_[at_]) || text_[at_] == '+')) ++at_;
    const std::string word(text_.substr(begin, at_ - begin));
    if (word.empty() || at_end()) return std::nullopt;
    if (word == "True" || word == "true") return Json(true);
    if (word == "False" || word == "false") return Json(false);
    if (word == "None" || word == "null") return Json(nullptr);
    Json number = Json::parse(word, nullptr, false);
    if (number.is_discarded()) return std::nullopt;
    return number;
  }

  std::string_view text_;
  size_t at_ = 0;
};

}  // namespace

PythonCallsRead read_python_calls(std::string_view text) {
  PythonCallsRead read;
  PythonReader reader(text);
  while (true) {
    reader.skip(" \t\r\n,;");
    read.taken = reader.position();
    if (reader.at_end()) return read;
    std::optional<PythonCall> call = reader.call();
    if (!call) {
      read.wrong = !reader.at_end();
      return read;
    }
    call->begin = read.taken;
    read.calls.push_back(std::move(*call));
  }
}

}  // namespace mlxr
