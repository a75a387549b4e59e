#include "daemon/server/completion_prompt.h"

#include <algorithm>

#include "daemon/server/adapters.h"
#include "daemon/server/chat_prompt.h"
#include "daemon/server/context_shift.h"
#include "daemon/server/fill_in.h"
#include "daemon/server/http/api_error.h"
#include "daemon/server/prompt_overflow.h"

namespace mlxr {
namespace {

std::vector<int32_t> prompt_tokens(Services& services, const Model& model,
                                   const openai::PromptInput& input, const std::string& suffix) {
  std::vector<int32_t> tokens;
  if (!suffix.empty()) {
    tokens = fill_in_prompt(model, std::get<std::string>(input), suffix);
  } else if (const auto* ids = std::get_if<std::vector<int32_t>>(&input)) {
    tokens = *ids;
  } else {
    tokens = services.prompts.raw(model, std::get<std::string>(input));
  }
  if (tokens.empty()) {
    throw bad_field("prompt",
                    "\"prompt\" is empty: this model has no beginning-of-text token to start from");
  }
  for (const int32_t token : tokens) {
    if (token >= model.facts.vocab_size) {
      throw bad_field("prompt", "\"prompt\" names token " + std::to_string(token) +
                                    "; this model's tokens are 0 to " +
                                    std::to_string(model.facts.vocab_size - 1));
    }
  }
  return tokens;
}

}  // namespace

void submit_completion(Services& services, Generation& generation,
                       const openai::CompletionRequest& request) {
  ServedModel& model = generation.model();
  const SamplingParams sampling = sampling_for(model, request.body);
  const auto constraint = compile_constraint(model.model(), request.options.constraint);
  const auto adapters = adapters_for(model, request.options.adapters);
  const bool compares = request.best_of > request.options.n;
  const int n_logprobs = compares ? std::max(request.n_logprobs, 0) : request.n_logprobs;
  try {
    for (const openai::PromptInput& input : request.prompts) {
      const std::vector<int32_t> prompt =
          prompt_tokens(services, model.model(), input, request.suffix);
      const auto shift = context_shift(
          model, request.options, [&] { return services.prompts.opening(model.model(), prompt); });
      for (int i = 0; i < request.best_of; ++i) {
        GenerateRequest choice =
            openai::to_generate_request(request.options, sampling, n_logprobs, prompt, i);
        choice.prompt_logprobs = request.echo && request.n_logprobs >= 0;
        choice.constraint = constraint;
        choice.adapters = adapters;
        choice.shift = shift;
        generation.submit(std::move(choice));
      }
    }
  } catch (const Error& error) {
    rethrow_blaming(error, "prompt", services.draining);
  }
}

}  // namespace mlxr
