// What a request's tools say: names, and the types of arguments.
#pragma once

#include <set>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace mlxr {

class ToolSchemas {
 public:
  // `tools` is OpenAI's array, or null.
  explicit ToolSchemas(const nlohmann::ordered_json& tools);

  const std::set<std::string>& names() const { return names_; }

  // The schema says what the argument is, and a string is not among it.
  bool wants_no_string(const std::string& function, const std::string& argument) const;

  // The JSON of an argument that came as bare text: as the schema's type where it says one and the
  // text fits, a string otherwise.
  std::string typed(const std::string& function, const std::string& argument,
                    const std::string& text) const;

 private:
  std::vector<std::string> types(const std::string& function, const std::string& argument) const;

  nlohmann::ordered_json schemas_ = nlohmann::ordered_json::object();  // by function
  std::set<std::string> names_;
};

}  // namespace mlxr
