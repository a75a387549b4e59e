#include "daemon/server/openai/completion_request.h"

#include <algorithm>
#include <limits>

#include "daemon/server/field_log.h"
#include "daemon/server/http/api_error.h"

namespace mlxr::openai {
namespace {

[[noreturn]] void refuse_prompt(const std::string& name) {
  throw bad_field(name,
                  "\"" + name +
                      "\" must be a string, an array of strings, an array of token ids, or an "
                      "array of arrays of token ids");
}

bool is_token(const Json& value) {
  return value.is_number_integer() &&
         (!value.is_number_unsigned() ||
          value.get<uint64_t>() <= uint64_t{std::numeric_limits<int32_t>::max()}) &&
         value.get<int64_t>() >= 0;
}

// What the model reads before a suffix is not the prompt's text.
void read_echo(const Fields& fields, CompletionRequest& request) {
  request.echo = fields.boolean("echo").value_or(false);
  if (request.echo && request.n_logprobs >= 0 && !request.suffix.empty()) {
    throw bad_field("echo", "\"echo\" together with \"logprobs\" needs a prompt without \"suffix\"",
                    "unsupported_parameter");
  }
}

// The model's marks for what is before and after go around texts.
void read_suffix(const Fields& fields, CompletionRequest& request) {
  request.suffix = fields.string("suffix").value_or("");
  const bool all_text = std::all_of(
      request.prompts.begin(), request.prompts.end(),
      [](const PromptInput& input) { return std::holds_alternative<std::string>(input); });
  if (!request.suffix.empty() && !all_text) {
    throw bad_field("suffix", "\"suffix\" needs a \"prompt\" of text, not of token ids");
  }
}

// Which answers are the best is known when all are complete.
void read_best_of(const Fields& fields, CompletionRequest& request) {
  const int n = request.options.n;
  request.best_of = static_cast<int>(fields.integer("best_of", 1, kMaxChoices).value_or(n));
  if (request.best_of < n) {
    throw bad_field("best_of", "\"best_of\" must be at least n, which is " + std::to_string(n));
  }
  if (request.best_of > n && request.options.stream) {
    throw bad_field("best_of", "\"best_of\" greater than n cannot be streamed");
  }
}

// A text has no messages that could be dropped.
void refuse_truncation(const Fields& fields) {
  const FieldLog::Pause pause;
  if (fields.string("truncation").value_or("disabled") != "disabled") {
    throw bad_field("truncation",
                    "\"truncation\" is for conversations; nothing is cut out of a \"prompt\" here",
                    "unsupported_parameter");
  }
}

}  // namespace

std::vector<int32_t> read_token_ids(const Json& array, const std::string& field) {
  std::vector<int32_t> tokens;
  for (const Json& token : array) {
    if (!is_token(token)) {
      throw bad_field(field, "\"" + field + "\" must hold token ids only, not " + to_text(token));
    }
    tokens.push_back(token.get<int32_t>());
  }
  return tokens;
}

std::vector<PromptInput> read_prompts(const Fields& fields, const std::string& name) {
  const Json* prompt = fields.value(name);
  if (prompt == nullptr) {
    throw bad_field(name, "\"" + name + "\" is missing");
  }
  if (prompt->is_string()) {
    return {prompt->get<std::string>()};
  }
  if (!prompt->is_array() || prompt->empty()) {
    refuse_prompt(name);
  }
  if (prompt->front().is_number()) {
    return {read_token_ids(*prompt, name)};
  }
  std::vector<PromptInput> prompts;
  for (const Json& item : *prompt) {
    if (item.is_string()) {
      prompts.emplace_back(item.get<std::string>());
    } else if (item.is_array() && !item.empty()) {
      prompts.emplace_back(read_token_ids(item, name));
    } else {
      refuse_prompt(name);
    }
  }
  return prompts;
}

CompletionRequest to_completion_request(Json body) {
  CompletionRequest request;
  request.body = std::move(body);
  const Fields fields(request.body);
  refuse_truncation(fields);
  request.options = read_options(fields, 0);
  request.prompts = read_prompts(fields, "prompt");
  read_suffix(fields, request);
  read_best_of(fields, request);
  if (request.prompts.size() * static_cast<size_t>(request.best_of) > kMaxChoices) {
    throw bad_field("prompt", "one request may ask for at most " + std::to_string(kMaxChoices) +
                                  " answers (prompts times n or best_of)");
  }
  request.n_logprobs =
      static_cast<int>(fields.integer("logprobs", 0, kMaxTopLogprobs).value_or(-1));
  read_echo(fields, request);
  return request;
}

CompletionRequest read_completion_request(const std::string& text) {
  Json body = parse_json_object(text);
  check_ranges(Fields(body));
  return to_completion_request(std::move(body));
}

}  // namespace mlxr::openai
