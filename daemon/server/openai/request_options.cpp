#include "daemon/server/openai/request_options.h"

#include <charconv>
#include <limits>

#include "daemon/server/http/api_error.h"

namespace mlxr::openai {
namespace {

constexpr size_t kMaxStopStrings = 16;
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

void refuse_what_would_change_the_answer(const Fields& fields) {
  for (const char* name : {"audio",
                           "functions",
                           "function_call",
                           "web_search_options",
                           "prediction",
                           "grammar",
                           "json_schema",
                           "guided_json",
                           "guided_regex",
                           "guided_choice",
                           "guided_grammar",
                           "structured_outputs",
                           "mirostat",
                           "dry_multiplier",
                           "xtc_probability",
                           "min_tokens",
                           "stop_token_ids",
                           "bad_words",
                           "allowed_token_ids",
                           "use_beam_search",
                           "prompt_logprobs",
                           "continue_final_message",
                           "images"}) {
    const Json* value = fields.value(name);
    if (value != nullptr && is_set(*value) && *value != Json(0)) {
      refuse_unsupported(name, "; leave it out");
    }
  }
  if (const Json* format = fields.object("response_format")) {
    const auto type = Fields(*format, "response_format.").string("type").value_or("text");
    if (type != "text") {
      refuse_unsupported("response_format", ": only {\"type\": \"text\"} is, not \"" + type + "\"");
    }
  }
  if (const Json* modalities = fields.array("modalities")) {
    if (*modalities != Json::array({"text"})) {
      refuse_unsupported("modalities", ": only [\"text\"] is");
    }
  }
}

void read_max_tokens(const Fields& fields, RequestOptions& options) {
  for (const char* name : {"max_tokens", "max_completion_tokens"}) {
    if (const auto limit = fields.integer(name, 1, kMaxInt)) {
      options.max_tokens = static_cast<int32_t>(*limit);
    }
  }
}

void read_number(const Fields& fields, const char* name, double lowest, double highest,
                 float& into) {
  if (const auto number = fields.number(name, lowest, highest)) {
    into = static_cast<float>(*number);
  }
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

}  // namespace

RequestOptions read_options(const Fields& fields) {
  refuse_what_would_change_the_answer(fields);
  RequestOptions options;
  options.model = fields.string("model").value_or("");
  options.stream = fields.boolean("stream").value_or(false);
  if (const Json* stream_options = fields.object("stream_options")) {
    options.include_usage =
        Fields(*stream_options, "stream_options.").boolean("include_usage").value_or(false);
  }
  options.n = static_cast<int>(fields.integer("n", 1, kMaxChoices).value_or(1));
  read_max_tokens(fields, options);
  read_stop(fields, options);
  options.ignore_eos = fields.boolean("ignore_eos").value_or(false);
  options.show_special = !fields.boolean("skip_special_tokens").value_or(true);
  SamplingParams scratch;
  apply_sampling(fields, scratch);
  return options;
}

void apply_sampling(const Fields& fields, SamplingParams& params) {
  read_number(fields, "temperature", 0, 2, params.temperature);
  read_number(fields, "top_p", 0, 1, params.top_p);
  read_number(fields, "min_p", 0, 1, params.min_p);
  read_number(fields, "typical_p", 0, 1, params.typical_p);
  read_number(fields, "repeat_penalty", 0.01, 10, params.repeat_penalty);
  read_number(fields, "repetition_penalty", 0.01, 10, params.repeat_penalty);
  read_number(fields, "presence_penalty", -2, 2, params.presence_penalty);
  read_number(fields, "frequency_penalty", -2, 2, params.frequency_penalty);
  if (const auto top_k = fields.integer("top_k", -1, kMaxInt)) {
    params.top_k = static_cast<int32_t>(std::max<int64_t>(*top_k, 0));  // -1 is off, as in vLLM
  }
  if (const auto last = fields.integer("repeat_last_n", -1, kMaxInt)) {
    params.penalty_last_n = static_cast<int32_t>(*last);
  }
  if (const auto seed = fields.integer("seed", std::numeric_limits<int64_t>::min(),
                                       std::numeric_limits<int64_t>::max())) {
    params.seed = static_cast<uint64_t>(*seed);
  }
  read_logit_bias(fields, params);
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
  return request;
}

}  // namespace mlxr::openai
