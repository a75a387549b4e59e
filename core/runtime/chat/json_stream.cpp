#include "core/runtime/chat/json_stream.h"

#include <array>
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include <nlohmann/json.hpp>

namespace mlxr {
namespace {

// Deeper values are no model's arguments, and whoever reads them recursively would overflow.
constexpr size_t kMaxDepth = 256;

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

bool is_number_part(char c) {
  return std::isdigit(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '+' || c == '.' ||
         c == 'e' || c == 'E';
}

bool is_letter(char c) { return std::isalpha(static_cast<unsigned char>(c)) != 0; }

}  // namespace

size_t JsonStream::push(std::string_view text, std::string& out) {
  size_t taken = 0;
  while (taken < text.size() && state_ != State::kDone && state_ != State::kBroken) {
    const char c = text[taken];
    const bool scalar = state_ == State::kNumber || state_ == State::kLiteral;
    // The character after a number belongs to what follows it.
    if (scalar && scalar_ends(c, out)) continue;
    take(c, out);
    if (state_ != State::kBroken) ++taken;
  }
  return taken;
}

// What the value of a member may still need goes out with it: before that nothing is certain.
void JsonStream::emit(std::string_view text, std::string& out) {
  out += std::exchange(held_, {});
  out += text;
  began_ = true;
}

void JsonStream::take(char c, std::string& out) {
  if (state_ == State::kString) {
    take_in_string(c, out);
    return;
  }
  if (state_ == State::kNumber || state_ == State::kLiteral) {
    scalar_ += c;
    return;
  }
  if (is_space(c)) return;
  switch (state_) {
    case State::kFirstKey:
    case State::kKey:
      if (c == '"') {
        held_ += c;
        in_key_ = true;
        state_ = State::kString;
      } else if (c == '}' && state_ == State::kFirstKey) {
        take_after_value(c, out);
      } else {
        state_ = State::kBroken;
      }
      break;
    case State::kColon:
      held_ += c;
      state_ = c == ':' ? State::kValue : State::kBroken;
      break;
    case State::kAfterValue:
      take_after_value(c, out);
      break;
    default:
      take_value(c, out);
  }
}

void JsonStream::take_value(char c, std::string& out) {
  if ((c == '{' || c == '[') && open_.size() == kMaxDepth) {
    state_ = State::kBroken;
  } else if (c == '{' || c == '[') {
    emit(std::string_view(&c, 1), out);
    open_.push_back(c);
    state_ = c == '{' ? State::kFirstKey : State::kFirstValue;
  } else if (c == '"') {
    emit("\"", out);
    in_key_ = false;
    state_ = State::kString;
  } else if (c == ']' && state_ == State::kFirstValue) {
    take_after_value(c, out);
  } else if (c == '-' || std::isdigit(static_cast<unsigned char>(c)) != 0) {
    scalar_ = c;
    state_ = State::kNumber;
  } else if (is_letter(c)) {
    scalar_ = c;
    state_ = State::kLiteral;
  } else {
    state_ = State::kBroken;
  }
}

bool JsonStream::scalar_ends(char c, std::string& out) {
  if (state_ == State::kNumber ? is_number_part(c) : is_letter(c)) return false;
  // Python's spelling is common.
  if (scalar_ == "True") scalar_ = "true";
  if (scalar_ == "False") scalar_ = "false";
  if (scalar_ == "None") scalar_ = "null";
  if (!nlohmann::json::accept(scalar_)) {
    state_ = State::kBroken;
    return true;
  }
  emit(std::exchange(scalar_, {}), out);
  end_value();
  return true;
}

void JsonStream::take_after_value(char c, std::string& out) {
  if (c == ',' && !open_.empty()) {
    held_.assign(1, ',');
    state_ = open_.back() == '{' ? State::kKey : State::kValue;
    return;
  }
  const char wanted = open_.empty() ? '\0' : (open_.back() == '{' ? '}' : ']');
  if (c != wanted) {
    state_ = State::kBroken;
    return;
  }
  out += c;
  open_.pop_back();
  end_value();
}

void JsonStream::end_value() { state_ = open_.empty() ? State::kDone : State::kAfterValue; }

void JsonStream::to_string_output(std::string_view text, std::string& out) {
  std::string& into = in_key_ ? held_ : out;
  // Half of a pair whose other half did not come.
  if (!surrogate_.empty()) {
    into += "\\ufffd";
    surrogate_.clear();
  }
  into += text;
}

void JsonStream::take_in_string(char c, std::string& out) {
  if (!escape_.empty()) {
    take_escape(c, out);
  } else if (c == '\\') {
    escape_ = c;
  } else if (c == '"') {
    to_string_output("\"", out);
    if (in_key_) {
      state_ = State::kColon;
    } else {
      end_value();
    }
  } else if (static_cast<unsigned char>(c) < 0x20) {
    std::array<char, 8> text{};
    std::snprintf(text.data(), text.size(), "\\u%04x", static_cast<unsigned>(c));
    to_string_output(c == '\n' ? "\\n" : c == '\t' ? "\\t" : text.data(), out);
  } else {
    to_string_output(std::string_view(&c, 1), out);
  }
}

void JsonStream::take_escape(char c, std::string& out) {
  if (escape_.size() == 1) {
    if (c == 'u') {
      escape_ += c;
      return;
    }
    escape_.clear();
    constexpr std::string_view kKnown = "\"\\/bfnrt";
    if (kKnown.find(c) != std::string_view::npos) {
      to_string_output(std::string{'\\', c}, out);
    } else if (c == '\'') {
      to_string_output("'", out);
    } else {
      to_string_output("\\\\", out);
      take_in_string(c, out);
    }
    return;
  }
  if (std::isxdigit(static_cast<unsigned char>(c)) == 0) {
    std::string literal = std::exchange(escape_, {});
    literal.insert(literal.begin(), '\\');
    to_string_output(literal, out);
    take_in_string(c, out);
    return;
  }
  escape_ += c;
  if (escape_.size() == 6) take_unicode(out);
}

void JsonStream::take_unicode(std::string& out) {
  const std::string escape = std::exchange(escape_, {});
  const long code = std::strtol(escape.c_str() + 2, nullptr, 16);
  const bool high = code >= 0xD800 && code < 0xDC00, low = code >= 0xDC00 && code < 0xE000;
  if (low && !surrogate_.empty()) {
    const std::string pair = std::exchange(surrogate_, {}) + escape;
    to_string_output(pair, out);
  } else if (high) {
    to_string_output("", out);
    surrogate_ = escape;
  } else {
    to_string_output(low ? "\\ufffd" : escape, out);
  }
}

std::string JsonStream::close() {
  if (!began_ || done()) return "";
  std::string end;
  const bool in_string = (state_ == State::kString && !in_key_);
  if (in_string) end += '"';
  for (auto it = open_.rbegin(); it != open_.rend(); ++it) end += *it == '{' ? '}' : ']';
  open_.clear();
  state_ = State::kDone;
  return end;
}

}  // namespace mlxr
