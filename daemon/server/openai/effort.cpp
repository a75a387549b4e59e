#include "daemon/server/openai/effort.h"

#include <algorithm>
#include <array>

#include "daemon/server/http/api_error.h"

namespace mlxr::openai {
namespace {

constexpr std::array<std::string_view, 6> kEfforts{"none",   "minimal", "low",
                                                   "medium", "high",    "xhigh"};

}  // namespace

std::string template_effort(const std::string& effort) {
  if (effort == "minimal") {
    return "low";
  }
  return effort == "xhigh" || effort == "max" ? "high" : effort;
}

// Templates of different families listen to different names.
void apply_effort(const std::string& effort, const std::string& path, Json& template_variables) {
  if (std::find(kEfforts.begin(), kEfforts.end(), effort) == kEfforts.end()) {
    throw bad_field(path, "\"" + path +
                              "\" must be none, minimal, low, medium, high or xhigh, not \"" +
                              effort + "\"");
  }
  const bool thinks = effort != "none";
  template_variables["enable_thinking"] = thinks;
  template_variables["thinking"] = thinks;
  if (thinks) {
    template_variables["reasoning_effort"] = template_effort(effort);
  }
}

Json effort_schema() {
  Json words = Json::array();
  for (const std::string_view effort : kEfforts) {
    words.push_back(effort);
  }
  words.push_back(nullptr);
  Json schema = Json::object();
  schema["enum"] = std::move(words);
  return schema;
}

}  // namespace mlxr::openai
