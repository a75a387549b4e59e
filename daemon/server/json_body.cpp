#include "daemon/server/json_body.h"

#include <array>
#include <charconv>
#include <cmath>

#include "daemon/server/field_log.h"
#include "daemon/server/http/api_error.h"

namespace mlxr {
namespace {

constexpr int kMaxDepth = 100;

[[noreturn]] void refuse_body(const std::string& message) {
  throw RequestError({400, message, "invalid_request_error", "", "invalid_json"});
}

// Templates and writers walk values recursively; a body must not be able to overflow the stack.
void check_depth(const std::string& body) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < body.size(); ++i) {
    const char c = body[i];
    if (in_string) {
      i += c == '\\' ? 1 : 0;
      in_string = c != '"';
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > kMaxDepth) {
        refuse_body("the JSON body is nested deeper than " + std::to_string(kMaxDepth) + " levels");
      }
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
}

// Drops the library's "[json.exception.parse_error.101] " tag.
std::string readable(const std::string& message) {
  const size_t end = message.find("] ");
  return message.starts_with("[json.") && end != std::string::npos ? message.substr(end + 2)
                                                                   : message;
}

std::string shown(const Json& value) {
  std::string text = to_text(value);
  if (text.size() > 60) {
    size_t cut = 57;
    while (cut > 0 && (static_cast<unsigned char>(text[cut]) & 0xC0) == 0x80) {
      --cut;
    }
    text = text.substr(0, cut) + "...";
  }
  return text;
}

std::string plain(double number) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%g", number);
  return text.data();
}

[[noreturn]] void wrong(const std::string& path, const std::string& wanted, const Json& got) {
  throw bad_field(path, "\"" + path + "\" must be " + wanted + ", not " + shown(got));
}

// `wanted`: what it is to be, "object" or "array", which is for the caller to see.
Json parse_json(const std::string& body, const std::string& wanted) {
  if (body.find_first_not_of(" \t\r\n") == std::string::npos) {
    refuse_body("the request body is empty; send a JSON " + wanted);
  }
  check_depth(body);
  Json value;
  try {
    value = Json::parse(body);
  } catch (const Json::exception& error) {
    refuse_body("the request body is not valid JSON: " + readable(error.what()));
  }
  if (value.type_name() != wanted) {
    refuse_body("the request body must be a JSON " + wanted + ", not " + shown(value));
  }
  return value;
}

}  // namespace

Json parse_json_object(const std::string& body) { return parse_json(body, "object"); }
Json parse_json_array(const std::string& body) { return parse_json(body, "array"); }

std::string to_text(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Json short_number(float value) {
  if (!std::isfinite(value)) {
    return value;
  }
  std::array<char, 32> text{};
  const auto end = std::to_chars(text.data(), text.data() + text.size(), value).ptr;
  double number = 0;
  std::from_chars(text.data(), end, number);
  return number;
}

Fields::Fields(const Json& object, std::string prefix)
    : object_(object), prefix_(std::move(prefix)) {}

const Json* Fields::value(const std::string& name) const {
  FieldLog::note(path(name));
  const auto found = object_.find(name);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

std::optional<bool> Fields::boolean(const std::string& name) const {
  const Json* field = value(name);
  if (field == nullptr) {
    return std::nullopt;
  }
  if (!field->is_boolean()) {
    wrong(path(name), "true or false", *field);
  }
  return field->get<bool>();
}

std::optional<int64_t> Fields::integer(const std::string& name, int64_t lowest,
                                       int64_t highest) const {
  const Json* field = value(name);
  if (field == nullptr) {
    return std::nullopt;
  }
  const std::string wanted =
      "a whole number from " + std::to_string(lowest) + " to " + std::to_string(highest);
  if (!field->is_number()) {
    wrong(path(name), wanted, *field);
  }
  // Some clients send 5.0 for 5.
  const double as_double = field->get<double>();
  const bool fits =
      field->is_number_float()
          ? as_double == std::floor(as_double) && std::abs(as_double) < 9.0e15
          : !(field->is_number_unsigned() && field->get<uint64_t>() > uint64_t{INT64_MAX});
  if (!fits) {
    wrong(path(name), wanted, *field);
  }
  const int64_t number =
      field->is_number_float() ? static_cast<int64_t>(as_double) : field->get<int64_t>();
  if (number < lowest || number > highest) {
    wrong(path(name), wanted, *field);
  }
  return number;
}

std::optional<double> Fields::number(const std::string& name, double lowest, double highest) const {
  const Json* field = value(name);
  if (field == nullptr) {
    return std::nullopt;
  }
  const std::string wanted = "a number from " + plain(lowest) + " to " + plain(highest);
  if (!field->is_number()) {
    wrong(path(name), wanted, *field);
  }
  const double number = field->get<double>();
  if (!(number >= lowest && number <= highest)) {
    wrong(path(name), wanted, *field);
  }
  return number;
}

std::optional<std::string> Fields::string(const std::string& name) const {
  const Json* field = value(name);
  if (field == nullptr) {
    return std::nullopt;
  }
  if (!field->is_string()) {
    wrong(path(name), "a string", *field);
  }
  return field->get<std::string>();
}

const Json* Fields::array(const std::string& name) const {
  const Json* field = value(name);
  if (field != nullptr && !field->is_array()) {
    wrong(path(name), "an array", *field);
  }
  return field;
}

const Json* Fields::object(const std::string& name) const {
  const Json* field = value(name);
  if (field != nullptr && !field->is_object()) {
    wrong(path(name), "an object", *field);
  }
  return field;
}

}  // namespace mlxr
