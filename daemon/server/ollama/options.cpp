#include "daemon/server/ollama/options.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <random>

#include "daemon/server/http/api_error.h"
#include "daemon/server/openai/request_options.h"
#include "daemon/server/schema.h"

namespace mlxr::ollama {
namespace {

constexpr int64_t kMaxInt = std::numeric_limits<int32_t>::max();

// Same meaning, same or another name. The shared reader checks the ranges.
constexpr std::array<std::pair<std::string_view, std::string_view>, 17> kMapped{{
    {"temperature", "temperature"},
    {"top_k", "top_k"},
    {"top_p", "top_p"},
    {"min_p", "min_p"},
    {"typical_p", "typical_p"},
    {"repeat_penalty", "repeat_penalty"},
    {"repeat_last_n", "repeat_last_n"},
    {"presence_penalty", "presence_penalty"},
    {"frequency_penalty", "frequency_penalty"},
    {"seed", "seed"},
    {"stop", "stop"},
    {"mirostat", "mirostat"},
    {"mirostat_tau", "mirostat_tau"},
    {"mirostat_eta", "mirostat_eta"},
    {"logit_bias", "logit_bias"},
    {"ignore_eos", "ignore_eos"},
    {"num_keep", "n_keep"},
}};

// They say how a runner uses the machine; here the daemon's settings do. num_ctx too: a model's
// window is fixed when it is loaded, and never changes by a request.
constexpr std::array<std::string_view, 13> kOfTheRunner{
    "num_ctx", "num_batch",  "num_gpu",    "main_gpu", "num_thread", "use_mmap", "f16_kv",
    "numa",    "logits_all", "vocab_only", "low_vram", "use_mlock",  "num_gqa"};

[[noreturn]] void refuse(const std::string& name, const std::string& why) {
  throw bad_field("options." + name, "\"options." + name + "\" " + why, "unsupported_parameter");
}

// Values beyond what these mean are taken for the nearest, as Ollama does.
Json in_range(const std::string& name, const Json& value) {
  if (!value.is_number()) {
    return value;
  }
  if (name == "temperature") {
    return std::max(value.get<double>(), 0.0);
  }
  return name == "top_p" || name == "min_p" ? Json(std::clamp(value.get<double>(), 0.0, 1.0))
                                            : value;
}

// -1: another seed each time, also where a created model has one.
Json random_seed() {
  std::random_device random;
  return int64_t{random()} << 31 | int64_t{random()};
}

void translate_option(const std::string& name, const Json& value, const Fields& options,
                      Json& body) {
  const auto mapped = std::find_if(kMapped.begin(), kMapped.end(),
                                   [&](const auto& pair) { return pair.first == name; });
  if (name == "seed" && value == -1) {
    body[name] = random_seed();
  } else if (mapped != kMapped.end()) {
    body[std::string(mapped->second)] = in_range(name, value);
  } else if (name == "num_predict") {
    // Zero and less: no limit; -2: but the window's.
    const int64_t limit = options.integer(name, -2, kMaxInt).value_or(-1);
    if (limit > 0) {
      body["max_tokens"] = limit;
    } else if (limit == -2) {
      body["context_shift"] = false;
    }
  } else if (name == "tfs_z") {
    if (options.number(name, 0, 1).value_or(1) != 1) {
      refuse(name, "other than 1 (tail-free sampling) is not supported; leave it out");
    }
  } else if (name == "penalize_newline") {
    options.boolean(name);  // without effect in Ollama too
  } else if (std::find(kOfTheRunner.begin(), kOfTheRunner.end(), name) == kOfTheRunner.end()) {
    refuse(name, "is no option that this server knows");
  } else if (!value.is_number() && !value.is_boolean()) {
    refuse(name, "must be a number, true or false");
  }
}

void translate_format(const Fields& fields, Json& body) {
  const Json* format = fields.value("format");
  if (format == nullptr || *format == "") {
    return;
  }
  if (*format == "json") {
    body["response_format"] = {{"type", "json_object"}};
  } else if (format->is_object()) {
    body["response_format"] = {
        {"type", "json_schema"},
        {"json_schema", {{"name", "format"}, {"strict", true}, {"schema", *format}}}};
  } else {
    throw bad_field("format",
                    "\"format\" must be \"json\" or a JSON schema, not " + to_text(*format));
  }
}

[[noreturn]] void refuse_duration(const Json& value) {
  throw bad_field(
      "keep_alive",
      "\"keep_alive\" must be seconds, or text such as \"5m\" or \"1h30m\", not " + to_text(value));
}

double unit_seconds(std::string_view unit) {
  return unit == "h" ? 3600 : unit == "m" ? 60 : unit == "s" ? 1 : unit == "ms" ? 1e-3 : 0;
}

// "1h30m", "-1", "300": numbers with units, a bare one in seconds.
std::optional<double> duration_seconds(std::string_view text) {
  const bool negative = text.starts_with('-');
  text.remove_prefix(negative || text.starts_with('+') ? 1 : 0);
  if (text.empty()) {
    return std::nullopt;
  }
  double total = 0;
  for (bool first = true; !text.empty(); first = false) {
    double number = 0;
    const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (problem != std::errc()) {
      return std::nullopt;
    }
    text.remove_prefix(static_cast<size_t>(end - text.data()));
    const std::string_view unit = text.substr(0, text.find_first_of("0123456789."));
    text.remove_prefix(unit.size());
    const double scale = unit.empty() && text.empty() && first ? 1 : unit_seconds(unit);
    if (scale == 0) {
      return std::nullopt;
    }
    total += number * scale;
  }
  return negative ? -total : total;
}

}  // namespace

void translate_options(const Fields& fields, Json& body) {
  body["model"] = fields.string("model").value_or("");
  body["stream"] = fields.boolean("stream").value_or(true);
  translate_format(fields, body);
  const Json* options = fields.object("options");
  if (options == nullptr) {
    return;
  }
  for (const auto& [name, value] : options->items()) {
    if (!value.is_null()) {
      translate_option(name, value, Fields(*options, "options."), body);
    }
  }
}

Json options_schema() {
  Json schema = request_schema(R"({
    "num_predict": {"type": "integer", "minimum": -2, "maximum": 2147483647},
    "tfs_z": {"enum": [1, null]},
    "penalize_newline": {"type": "boolean"}})");
  const Json shared = openai::options_schema()["properties"];
  for (const auto& [name, shared_name] : kMapped) {
    schema["properties"][std::string(name)] = shared[std::string(shared_name)];
  }
  schema["properties"].update(openai::wide_ranges());
  schema["properties"]["temperature"].erase("minimum");
  for (const char* name : {"top_p", "min_p"}) {
    schema["properties"][name] = Json::parse(R"({"type": ["number", "null"]})");
  }
  for (const std::string_view name : kOfTheRunner) {
    schema["properties"][std::string(name)] = {{"type", {"number", "boolean", "null"}}};
  }
  // One that is not known is refused.
  schema["additionalProperties"] = false;
  return schema;
}

std::optional<std::chrono::milliseconds> read_keep_alive(const Fields& fields) {
  const Json* value = fields.value("keep_alive");
  if (value == nullptr) {
    return std::nullopt;
  }
  std::optional<double> seconds;
  if (value->is_number()) {
    seconds = value->get<double>();
  } else if (value->is_string()) {
    seconds = duration_seconds(value->get_ref<const std::string&>());
  }
  if (!seconds || !std::isfinite(*seconds)) {
    refuse_duration(*value);
  }
  constexpr double kYear = 365.0 * 86400;
  return std::chrono::milliseconds(
      static_cast<int64_t>(std::clamp(*seconds, -1.0, 100 * kYear) * 1000));
}

}  // namespace mlxr::ollama
