// Reads a request's JSON: syntax errors with their place, fields with their type and range, and
// every complaint naming the field. null counts as absent, as OpenAI's clients send it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace mlxr {

using Json = nlohmann::ordered_json;

// Throws RequestError (400). An empty body is an error too.
Json parse_json_object(const std::string& body);
Json parse_json_array(const std::string& body);

// As text; invalid UTF-8 (half a character of a token) becomes U+FFFD.
std::string to_text(const Json& value);

// A float as it is written: 0.7, not 0.699999988079071.
Json short_number(float value);

// The fields of one object. `prefix` goes before names in complaints: "messages[2].".
class Fields {
 public:
  explicit Fields(const Json& object, std::string prefix = "");

  const Json* value(const std::string& name) const;  // null when absent or null
  bool has(const std::string& name) const { return value(name) != nullptr; }
  std::optional<bool> boolean(const std::string& name) const;
  std::optional<int64_t> integer(const std::string& name, int64_t lowest, int64_t highest) const;
  std::optional<double> number(const std::string& name, double lowest, double highest) const;
  std::optional<std::string> string(const std::string& name) const;
  const Json* array(const std::string& name) const;
  const Json* object(const std::string& name) const;
  std::string path(const std::string& name) const { return prefix_ + name; }

 private:
  const Json& object_;
  std::string prefix_;
};

}  // namespace mlxr
