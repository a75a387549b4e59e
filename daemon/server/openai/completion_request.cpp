#include "daemon/server/openai/completion_request.h"

#include <algorithm>
#include <limits>

#include "daemon/server/http/api_error.h"

namespace mlxr::openai {
namespace {

[[noreturn]] void refuse_prompt() {
  throw bad_field("prompt",
                  "\"prompt\" must be a string, an array of strings, an array of token ids, or an "
                  "array of arrays of token ids");
}

bool is_token(const Json& value) {
  return value.is_number_integer() &&
         (!value.is_number_unsigned() ||
          value.get<uint64_t>() <= uint64_t{std::numeric_limits<int32_t>::max()}) &&
         value.get<int64_t>() >= 0;
}

std::vector<int32_t> read_tokens(const Json& array) {
  std::vector<int32_t> tokens;
  for (const Json& token : array) {
    if (!is_token(token)) {
      refuse_prompt();
    }
    tokens.push_back(token.get<int32_t>());
  }
  return tokens;
}

std::vector<PromptInput> read_prompts(const Fields& fields) {
  const Json* prompt = fields.value("prompt");
  if (prompt == nullptr) {
    throw bad_field("prompt", "\"prompt\" is missing");
  }
  if (prompt->is_string()) {
    return {prompt->get<std::string>()};
  }
  if (!prompt->is_array() || prompt->empty()) {
    refuse_prompt();
  }
  if (prompt->front().is_number()) {
    return {read_tokens(*prompt)};
  }
  std::vector<PromptInput> prompts;
  for (const Json& item : *prompt) {
    if (item.is_string()) {
      prompts.emplace_back(item.get<std::string>());
    } else if (item.is_array() && !item.empty()) {
      prompts.emplace_back(read_tokens(item));
    } else {
      refuse_prompt();
    }
  }
  return prompts;
}

void refuse_unsupported(const Fields& fields) {
  if (fields.boolean("echo").value_or(false)) {
    throw bad_field("echo", "\"echo\" is not supported yet", "unsupported_parameter");
  }
  if (!fields.string("suffix").value_or("").empty()) {
    throw bad_field("suffix",
                    "\"suffix\" is not supported yet; write the model's fill-in-the-middle tokens "
                    "into the prompt",
                    "unsupported_parameter");
  }
}

}  // namespace

CompletionRequest read_completion_request(const std::string& body) {
  CompletionRequest request;
  request.body = parse_json_object(body);
  const Fields fields(request.body);
  request.options = read_options(fields);
  request.prompts = read_prompts(fields);
  refuse_unsupported(fields);
  const auto best_of = fields.integer("best_of", 1, kMaxChoices);
  if (best_of && *best_of != request.options.n) {
    throw bad_field("best_of", "\"best_of\" other than n is not supported",
                    "unsupported_parameter");
  }
  if (request.prompts.size() * static_cast<size_t>(request.options.n) > kMaxChoices) {
    throw bad_field("prompt", "one request may ask for at most " + std::to_string(kMaxChoices) +
                                  " answers (prompts times n)");
  }
  request.n_logprobs =
      static_cast<int>(fields.integer("logprobs", 0, kMaxTopLogprobs).value_or(-1));
  return request;
}

}  // namespace mlxr::openai
