#include "daemon/server/openai/request_options.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>

#include "daemon/server/field_log.h"
#include "daemon/server/http/api_error.h"
#include "daemon/server/openai/constraint_fields.h"
#include "daemon/server/schema.h"

namespace mlxr::openai {
namespace {

constexpr size_t kMaxStopStrings = 16;
constexpr double kShortestTimeout = 0.001, kMaxTimeout = 7 * 86400;  // seconds
constexpr int64_t kMaxInt = std::numeric_limits<int32_t>::max();

void add_stop(RequestOptions& options, const Json& value, const std::string& path) {
  if (!value.is_string() || value.get_ref<const std::string&>().empty()) {
    throw bad_field(path,
                    "\"" + path + "\" must be a string that is not empty, not " + to_text(value));
  }
  options.stop.push_back(value.get<std::string>());
}

void read_stop(const Fields& fields, RequestOptions& options) {
  const Json* stop = fields.value("stop");
  if (stop == nullptr) {
    return;
  }
  if (!stop->is_array()) {
    add_stop(options, *stop, "stop");
    return;
  }
  if (stop->size() > kMaxStopStrings) {
    throw bad_field("stop", "\"stop\" has " + std::to_string(stop->size()) + " strings; at most " +
                                std::to_string(kMaxStopStrings) + " are supported");
  }
  for (size_t i = 0; i < stop->size(); ++i) {
    add_stop(options, (*stop)[i], "stop[" + std::to_string(i) + "]");
  }
}

[[noreturn]] void refuse_unsupported(const std::string& name, const std::string& what) {
  throw bad_field(name, "\"" + name + "\" is not supported yet" + what, "unsupported_parameter");
}

bool is_set(const Json& value) {
  return !(value.is_boolean() && !value.get<bool>()) && !(value.is_structured() && value.empty());
}

void refuse_what_is_never_served(const Fields& fields) {
  const FieldLog::Pause pause;
  for (const char* name : {"audio", "functions", "function_call", "web_search_options",
                           "prediction", "min_tokens", "stop_token_ids", "bad_words",
                           "allowed_token_ids", "use_beam_search", "prompt_logprobs", "images"}) {
    const Json* value = fields.value(name);
    if (value != nullptr && is_set(*value) && *value != Json(0)) {
      refuse_unsupported(name, "; leave it out");
    }
  }
}

void refuse_what_would_change_the_answer(const Fields& fields) {
  refuse_what_is_never_served(fields);
  if (const Json* modalities = fields.array("modalities")) {
    if (*modalities != Json::array({"text"})) {
      refuse_unsupported("modalities", ": only [\"text\"] is");
    }
  }
}

void read_max_tokens(const Fields& fields, int64_t least, RequestOptions& options) {
  for (const char* name : {"max_tokens", "max_completion_tokens"}) {
    if (const auto limit = fields.integer(name, least, kMaxInt)) {
      options.max_tokens = static_cast<int32_t>(*limit);
    }
  }
}

struct NumberField {
  const char* name;
  double lowest, highest;
  float SamplingParams::*into;
};
// What this server can do; the APIs allow less (check_ranges).
constexpr std::array<NumberField, 17> kNumbers{{
    {"temperature", 0, 100, &SamplingParams::temperature},
    {"dynatemp_range", 0, 2, &SamplingParams::dynatemp_range},
    {"dynatemp_exponent", 0.01, 100, &SamplingParams::dynatemp_exponent},
    {"top_p", 0, 1, &SamplingParams::top_p},
    {"min_p", 0, 1, &SamplingParams::min_p},
    {"typical_p", 0, 1, &SamplingParams::typical_p},
    {"xtc_probability", 0, 1, &SamplingParams::xtc_probability},
    {"xtc_threshold", 0, 1, &SamplingParams::xtc_threshold},
    {"mirostat_tau", 0, 100, &SamplingParams::mirostat_tau},
    {"mirostat_eta", 0, 1, &SamplingParams::mirostat_eta},
    {"repeat_penalty", 0.01, 10, &SamplingParams::repeat_penalty},
    {"repetition_penalty", 0.01, 10, &SamplingParams::repeat_penalty},
    {"presence_penalty", -100, 100, &SamplingParams::presence_penalty},
    {"frequency_penalty", -100, 100, &SamplingParams::frequency_penalty},
    {"dry_multiplier", 0, 100, &SamplingParams::dry_multiplier},
    {"dry_base", 1, 100, &SamplingParams::dry_base},
    // -1 is off, as in llama-server.
    {"top_n_sigma", -1, 100, &SamplingParams::top_n_sigma},
}};

struct NumberRange {
  const char* name;
  double lowest, highest;
};
// OpenAI's.
constexpr std::array<NumberRange, 3> kRanges{
    {{"temperature", 0, 2}, {"presence_penalty", -2, 2}, {"frequency_penalty", -2, 2}}};

struct CountField {
  const char* name;
  int64_t lowest, highest;
  int32_t SamplingParams::*into;
};
constexpr std::array<CountField, 5> kCounts{{
    {"top_k", -1, kMaxInt, &SamplingParams::top_k},  // -1 is off, as in vLLM
    {"mirostat", 0, 2, &SamplingParams::mirostat},
    {"repeat_last_n", -1, kMaxInt, &SamplingParams::penalty_last_n},
    {"dry_allowed_length", 0, kMaxInt, &SamplingParams::dry_allowed_length},
    {"dry_penalty_last_n", -1, kMaxInt, &SamplingParams::dry_penalty_last_n},
}};

AdapterChoice read_adapter(const Json& item, const std::string& path) {
  if (!item.is_object()) {
    throw bad_field(path, "\"" + path + "\" must be an object: {\"name\": ..., \"scale\": 1}");
  }
  const Fields fields(item, path + ".");
  AdapterChoice choice;
  choice.id = fields.integer("id", 0, kMaxInt);
  choice.name = fields.string("name").value_or("");
  if (!choice.id && choice.name.empty()) {
    throw bad_field(
        path, "\"" + path + "\" needs an \"id\" or a \"name\"; GET /lora-adapters lists them");
  }
  choice.scale =
      static_cast<float>(fields.number("scale", -kMostAdapterScale, kMostAdapterScale).value_or(1));
  return choice;
}

std::vector<std::string> read_breakers(const Json& array) {
  std::vector<std::string> breakers;
  for (size_t i = 0; i < array.size(); ++i) {
    if (!array[i].is_string() || array[i].get_ref<const std::string&>().empty()) {
      const std::string path = "dry_sequence_breakers[" + std::to_string(i) + "]";
      throw bad_field(path, "\"" + path + "\" must be a string that is not empty");
    }
    breakers.push_back(array[i].get<std::string>());
  }
  return breakers;
}

void read_logit_bias(const Fields& fields, SamplingParams& params) {
  const Json* biases = fields.object("logit_bias");
  if (biases == nullptr) {
    return;
  }
  for (const auto& item : biases->items()) {
    const std::string& key = item.key();
    int32_t token = -1;
    const auto [end, problem] = std::from_chars(key.data(), key.data() + key.size(), token);
    if (problem != std::errc() || end != key.data() + key.size() || token < 0) {
      throw bad_field("logit_bias", "\"logit_bias\" must map token ids to numbers; \"" + key +
                                        "\" is no token id");
    }
    const Fields entry(*biases, "logit_bias.");
    params.logit_bias[token] = static_cast<float>(entry.number(key, -100, 100).value_or(0));
  }
}

// "n_keep" is llama-server's.
void read_shift(const Fields& fields, RequestOptions& options) {
  options.shift = fields.boolean("context_shift");
  if (const auto keep = fields.integer("n_keep", -1, kMaxInt)) {
    options.keep = static_cast<int32_t>(*keep);
  }
}

}  // namespace

// "service_tier" is OpenAI's word; "priority" is vLLM's, where lower numbers go first.
void read_scheduling(const Fields& fields, RequestOptions& options) {
  const std::string tier = fields.string("service_tier").value_or("");
  options.priority = tier == "priority" ? 1 : tier == "flex" ? -1 : 0;
  if (const auto priority = fields.integer("priority", -kMaxInt, kMaxInt)) {
    options.priority = static_cast<int32_t>(-*priority);
  }
  if (const auto seconds = fields.number("timeout", kShortestTimeout, kMaxTimeout)) {
    options.timeout = std::chrono::milliseconds(std::llround(*seconds * 1000));
  }
  options.cache_salt = fields.string("cache_salt").value_or("");
}

RequestOptions read_options(const Fields& fields, int64_t least_tokens) {
  refuse_what_would_change_the_answer(fields);
  RequestOptions options;
  options.model = fields.string("model").value_or("");
  options.stream = fields.boolean("stream").value_or(false);
  if (const Json* stream_options = fields.object("stream_options")) {
    options.include_usage =
        Fields(*stream_options, "stream_options.").boolean("include_usage").value_or(false);
  }
  options.n = static_cast<int>(fields.integer("n", 1, kMaxChoices).value_or(1));
  read_max_tokens(fields, least_tokens, options);
  read_stop(fields, options);
  options.ignore_eos = fields.boolean("ignore_eos").value_or(false);
  options.constraint = read_constraint(fields);
  read_scheduling(fields, options);
  if (const Json* adapters = fields.array("lora")) {
    options.adapters = read_adapters(*adapters, "lora");
  }
  options.show_special = !fields.boolean("skip_special_tokens").value_or(true);
  read_shift(fields, options);
  SamplingParams scratch;
  apply_sampling(fields, scratch);
  return options;
}

std::vector<AdapterChoice> read_adapters(const Json& array, const std::string& path) {
  std::vector<AdapterChoice> choice;
  for (size_t i = 0; i < array.size(); ++i) {
    choice.push_back(read_adapter(array[i], path + "[" + std::to_string(i) + "]"));
  }
  return choice;
}

Json adapters_schema() {
  Json schema = Json::parse(R"({"type": "array", "items": {"type": "object",
    "properties": {"id": {}, "name": {"type": ["string", "null"]}, "scale": {}},
    "anyOf": [{"required": ["id"]}, {"required": ["name"]}]}})");
  Json& properties = schema["items"]["properties"];
  properties["id"] = or_null(integer_schema(0, kMaxInt));
  properties["scale"] = or_null(number_schema(-kMostAdapterScale, kMostAdapterScale));
  return schema;
}

void copy_scheduling(const Fields& fields, Json& body) {
  for (const char* name : {"priority", "timeout", "cache_salt", "lora"}) {
    if (const Json* value = fields.value(name)) {
      body[name] = *value;
    }
  }
}

void check_ranges(const Fields& fields) {
  for (const NumberRange& range : kRanges) {
    fields.number(range.name, range.lowest, range.highest);
  }
}

Json wide_ranges() {
  Json properties = Json::object();
  for (const NumberRange& range : kRanges) {
    const auto* field = std::find_if(kNumbers.begin(), kNumbers.end(), [&](const auto& one) {
      return std::string_view(one.name) == range.name;
    });
    properties[range.name] = or_null(number_schema(field->lowest, field->highest));
  }
  return properties;
}

void apply_sampling(const Fields& fields, SamplingParams& params) {
  for (const NumberField& field : kNumbers) {
    if (const auto number = fields.number(field.name, field.lowest, field.highest)) {
      params.*field.into = static_cast<float>(*number);
    }
  }
  for (const CountField& field : kCounts) {
    if (const auto count = fields.integer(field.name, field.lowest, field.highest)) {
      params.*field.into = static_cast<int32_t>(*count);
    }
  }
  params.top_n_sigma = std::max(params.top_n_sigma, 0.0f);
  params.top_k = std::max(params.top_k, 0);
  if (const Json* breakers = fields.array("dry_sequence_breakers")) {
    params.dry_sequence_breakers = read_breakers(*breakers);
  }
  if (const auto seed = fields.integer("seed", std::numeric_limits<int64_t>::min(),
                                       std::numeric_limits<int64_t>::max())) {
    params.seed = static_cast<uint64_t>(*seed);
  }
  read_logit_bias(fields, params);
}

Json scheduling_schema() {
  Json schema =
      request_schema(R"({"service_tier": {"type": "string"}, "cache_salt": {"type": "string"}})");
  schema["properties"]["priority"] = or_null(integer_schema(-kMaxInt, kMaxInt));
  schema["properties"]["timeout"] = or_null(number_schema(kShortestTimeout, kMaxTimeout));
  return schema;
}

Json options_schema() {
  Json schema = request_schema(R"({
    "model": {"type": "string"},
    "stream": {"type": "boolean"},
    "stream_options": {"type": "object", "properties": {
      "include_usage": {"type": ["boolean", "null"]}}},
    "stop": {"anyOf": [{"type": "string", "minLength": 1},
      {"type": "array", "items": {"type": "string", "minLength": 1}}]},
    "ignore_eos": {"type": "boolean"},
    "skip_special_tokens": {"type": "boolean"},
    "context_shift": {"type": "boolean"},
    "modalities": {"type": "array", "items": {"const": "text"}, "minItems": 1, "maxItems": 1},
    "logit_bias": {"type": "object", "propertyNames": {"pattern": "^[0-9]+$"},
      "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100}},
    "dry_sequence_breakers": {"type": "array", "items": {"type": "string", "minLength": 1}}})");
  Json& properties = schema["properties"];
  properties["stop"]["anyOf"][1]["maxItems"] = kMaxStopStrings;
  const auto add = [&properties](const char* name, Json property) {
    properties[name] = or_null(std::move(property));
  };
  add("n", integer_schema(1, kMaxChoices));
  add("max_tokens", integer_schema(1, kMaxInt));
  add("max_completion_tokens", integer_schema(1, kMaxInt));
  add("lora", adapters_schema());
  add("n_keep", integer_schema(-1, kMaxInt));
  add("seed",
      integer_schema(std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max()));
  for (const NumberField& field : kNumbers) {
    add(field.name, number_schema(field.lowest, field.highest));
  }
  for (const NumberRange& range : kRanges) {
    add(range.name, number_schema(range.lowest, range.highest));
  }
  for (const CountField& field : kCounts) {
    add(field.name, integer_schema(field.lowest, field.highest));
  }
  return extended(extended(std::move(schema), scheduling_schema()), constraint_schema());
}

void check_token_ids(const SamplingParams& params, int32_t vocab_size) {
  if (!params.logit_bias.empty() && params.logit_bias.rbegin()->first >= vocab_size) {
    throw bad_field("logit_bias", "\"logit_bias\" names token " +
                                      std::to_string(params.logit_bias.rbegin()->first) +
                                      "; this model's tokens are 0 to " +
                                      std::to_string(vocab_size - 1));
  }
}

GenerateRequest to_generate_request(const RequestOptions& options, const SamplingParams& sampling,
                                    int n_logprobs, std::vector<int32_t> prompt, int index) {
  GenerateRequest request;
  request.prompt = std::move(prompt);
  request.sampling = sampling;
  if (request.sampling.seed) {
    *request.sampling.seed += static_cast<uint64_t>(index);
  }
  request.max_tokens = options.max_tokens;
  request.stop = options.stop;
  request.ignore_eos = options.ignore_eos;
  request.show_special = options.show_special;
  request.n_logprobs = n_logprobs;
  request.priority = options.priority;
  request.timeout = options.timeout;
  request.cache_salt = options.cache_salt;
  return request;
}

}  // namespace mlxr::openai
