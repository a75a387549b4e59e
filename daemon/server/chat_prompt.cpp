#include "daemon/server/chat_prompt.h"

#include <spdlog/spdlog.h>

#include <algorithm>

#include "core/runtime/chat/tag_finder.h"
#include "daemon/server/adapters.h"
#include "daemon/server/constraints.h"
#include "daemon/server/http/api_error.h"
#include "daemon/server/truncation.h"

namespace mlxr {
namespace {

// Enough to hold the longest opening tag and the white space after it.
constexpr size_t kTailTokens = 12;

bool ends_with_tag(const Tokenizer& tokenizer, const std::vector<int32_t>& tokens,
                   const std::string& tag) {
  const size_t count = std::min(tokens.size(), kTailTokens);
  const std::string tail = tokenizer.decode(std::span(tokens).last(count), false);
  return trimmed(tail).ends_with(tag);
}

// Of an answer that the prompt has begun.
bool is_open_reasoning(const Json& message, const ReasoningTags& tags) {
  const std::string_view text = trimmed(message["content"].get_ref<const std::string&>());
  return text.starts_with(tags.open) && text.find(tags.close) == std::string::npos;
}

bool is_control_token(const Tokenizer& tokenizer, const std::string& text) {
  const auto id = tokenizer.token_id(text);
  return id && tokenizer.is_special(*id);
}

void append_text(const Tokenizer& tokenizer, std::vector<int32_t>& tokens,
                 const std::string& text) {
  const std::vector<int32_t> more = tokenizer.encode(text, false, true);
  tokens.insert(tokens.end(), more.begin(), more.end());
}

// Empty: any of the tools.
std::string forced_name(const openai::ChatRequest& request) {
  const bool only_one = request.forced_call->empty() && request.tools.size() == 1;
  return only_one ? request.tools[0]["function"]["name"].get<std::string>() : *request.forced_call;
}

// The prompt goes on with the beginning of the call, so that the answer cannot be anything else.
void force_call(const openai::ChatRequest& request, const Tokenizer& tokenizer,
                ChatPrompt& prompt) {
  AnswerSyntax& syntax = prompt.rules.syntax;
  syntax.opening = call_opening(syntax.tools, forced_name(request));
  const bool inside_message =
      syntax.tools == ToolFormat::kHarmony && request.end == PromptEnd::kLastMessage;
  if (inside_message) {
    throw bad_field("tool_choice",
                    "\"tool_choice\": a call cannot follow the beginning of an answer in this "
                    "model's format of calls; leave the last message out",
                    "unsupported_parameter");
  }
  if (syntax.opening.empty()) {
    throw bad_field("tool_choice",
                    "\"tool_choice\": a call cannot be forced with this model's format of calls; "
                    "use \"auto\"",
                    "unsupported_parameter");
  }
  if (syntax.begins_in_reasoning) {
    append_text(tokenizer, prompt.tokens, syntax.reasoning->close + "\n\n");
  }
  append_text(tokenizer, prompt.tokens, syntax.opening);
}

// An answer of the size that was asked for, or of an eighth of the window; at most of half of it.
bool leaves_room(const ChatPrompt& prompt, const openai::ChatRequest& request, int64_t window) {
  const int64_t asked = request.options.max_tokens;
  const int64_t answer = std::min(asked > 0 ? asked : window / 8, window / 2);
  return static_cast<int64_t>(prompt.tokens.size()) + std::max<int64_t>(answer, 1) <= window;
}

// Without its oldest turns, where the request or the model asks for that.
ChatPrompt truncated_chat_prompt(Services& services, const ServedModel& model,
                                 const openai::ChatRequest& request, Exchange& exchange) {
  ChatPrompt prompt = build_chat_prompt(services, model.model(), request);
  const int64_t window = model.scheduler().context_length();
  if (!request.truncate.value_or(model.truncates()) || leaves_room(prompt, request, window)) {
    return prompt;
  }
  openai::ChatRequest shorter = request;
  Truncated rest = truncate_messages(request.messages, [&](const Json& messages) {
    shorter.messages = messages;
    return leaves_room(build_chat_prompt(services, model.model(), shorter), request, window);
  });
  shorter.messages = std::move(rest.messages);
  const size_t tokens = prompt.tokens.size();
  prompt = build_chat_prompt(services, model.model(), shorter);
  if (rest.dropped == 0) {
    return prompt;
  }
  spdlog::info("request id={} truncated: {} of {} messages dropped, {} of {} prompt tokens left",
               exchange.record.id, rest.dropped, request.messages.size(), prompt.tokens.size(),
               tokens);
  exchange.extra_headers.emplace_back("x-mlxr-truncated-messages", std::to_string(rest.dropped));
  return prompt;
}

}  // namespace

AnswerSyntax answer_syntax(const Model& model) {
  const std::string source = model.chat_template ? model.chat_template->source() : "";
  return syntax_of_template(source, [&model](const std::string& text) {
    return model.tokenizer && model.tokenizer->token_id(text).has_value();
  });
}

ChatPrompt build_chat_prompt(Services& services, const Model& model,
                             const openai::ChatRequest& request) {
  ChatPrompt prompt;
  prompt.tokens = services.prompts.chat(model, request.messages, request.tools,
                                        request.template_variables, request.end);
  AnswerSyntax& syntax = prompt.rules.syntax;
  syntax = answer_syntax(model);
  syntax.tool_list = request.tools;
  const Tokenizer& tokenizer = *model.tokenizer;
  if (syntax.reasoning) {
    syntax.begins_in_reasoning =
        request.end == PromptEnd::kLastMessage
            ? is_open_reasoning(request.messages.back(), *syntax.reasoning)
            : ends_with_tag(tokenizer, prompt.tokens, syntax.reasoning->open);
  }
  if (request.forced_call) {
    force_call(request, tokenizer, prompt);
  }
  const bool reads_calls = !request.tools.is_null() || syntax.tools == ToolFormat::kHarmony;
  prompt.show_special = (reads_calls && marks_are_control_tokens(syntax.tools)) ||
                        (syntax.reasoning && is_control_token(tokenizer, syntax.reasoning->close));
  prompt.rules.one_call = !request.parallel_calls;
  prompt.rules.stop = request.options.stop;
  prompt.rules.tokenizer = model.tokenizer;
  prompt.rules.place_tokens = true;
  return prompt;
}

ChatPrompt fitting_chat_prompt(Services& services, const ServedModel& model,
                               const openai::ChatRequest& request, Exchange& exchange) {
  ChatPrompt prompt = truncated_chat_prompt(services, model, request, exchange);
  prompt.shift = context_shift(model, request.options, [&] {
    return services.prompts.opening(model.model(), prompt.tokens, request.messages, request.tools,
                                    request.template_variables);
  });
  return prompt;
}

SamplingParams sampling_for(const ServedModel& model, const Json& body) {
  SamplingParams sampling = model.default_sampling();
  openai::apply_sampling(Fields(body), sampling);
  openai::check_token_ids(sampling, model.model().facts.vocab_size);
  return sampling;
}

void submit_chat(Generation& generation, const openai::ChatRequest& request,
                 const ChatPrompt& prompt) {
  const SamplingParams sampling = sampling_for(generation.model(), request.body);
  openai::RequestOptions options = request.options;
  options.show_special = options.show_special || prompt.show_special;
  const Model& model = generation.model().model();
  // A forced call is not the answer that the constraint is about.
  auto constraint = request.forced_call ? nullptr : compile_constraint(model, options.constraint);
  const auto adapters = adapters_for(generation.model(), options.adapters);
  const ToolFormat format = prompt.rules.syntax.tools;
  FreeParts free_parts = free_parts_of_chat(model, format, request.tools, constraint != nullptr);
  if (request.forced_call) {
    free_parts.begun_call =
        forced_call_constraint(model, format, request.tools, forced_name(request));
  } else if (!constraint && request.end != PromptEnd::kLastMessage) {
    constraint = unmarked_calls_constraint(model, format, request.tools);
  }
  for (int i = 0; i < options.n; ++i) {
    GenerateRequest choice =
        openai::to_generate_request(options, sampling, request.n_logprobs, prompt.tokens, i);
    choice.constraint = constraint;
    choice.adapters = adapters;
    choice.shift = prompt.shift;
    choice.free_parts = free_parts;
    generation.submit(std::move(choice));
  }
}

}  // namespace mlxr
