// The fields that chat and text completions share: sampling, limits, streaming. Fields that would
// change the answer and are not supported are refused by name; harmless unknown ones are ignored.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "daemon/scheduler/adapter_store.h"
#include "daemon/scheduler/generate_request.h"
#include "daemon/server/constraints.h"
#include "daemon/server/json_body.h"

namespace mlxr::openai {

inline constexpr int kMaxChoices = 128;
inline constexpr int kMaxTopLogprobs = 20;

struct RequestOptions {
  std::string model;  // empty: the default one
  bool stream = false;
  bool include_usage = false;
  int n = 1;
  int32_t max_tokens = -1;
  std::vector<std::string> stop;
  bool ignore_eos = false;
  bool show_special = false;
  std::optional<RequestedConstraint> constraint;
  int32_t priority = 0;  // higher goes first
  std::optional<std::chrono::milliseconds> timeout;
  std::string cache_salt;
  std::optional<std::vector<AdapterChoice>> adapters;  // nothing: the model's defaults
  // Where the context window is full, the answer goes on without the oldest tokens. Nothing: as the
  // model's settings say, and where they do not either, as clients of the API expect.
  std::optional<bool> shift;
  bool shift_by_default = false;
  std::optional<int32_t> keep;  // of the prompt's tokens, then; -1: all
};

// Throws RequestError naming the field. `least_tokens`: of an answer.
RequestOptions read_options(const Fields& fields, int64_t least_tokens = 1);
// What read_options and apply_sampling read.
Json options_schema();

// The normal form takes more than OpenAI does, for Ollama's clients and models. Throws RequestError
// for what OpenAI, and Anthropic here, would not take.
void check_ranges(const Fields& fields);
// Schemas of those fields as the normal form takes them.
Json wide_ranges();

// priority, timeout and cache_salt, alone; what it reads.
void read_scheduling(const Fields& fields, RequestOptions& options);
Json scheduling_schema();

// Into the normal form: what another API's body says of priority, timeout and cache_salt, which no
// API but vLLM's has, and of lora, which is llama-server's. All take them here alike.
void copy_scheduling(const Fields& fields, Json& body);

// LoRA adapters by number or name, as llama-server takes them: [{"id": 0, "scale": 0.5}]. `path`
// goes before names in complaints: "lora[1].". Throws RequestError.
std::vector<AdapterChoice> read_adapters(const Json& array, const std::string& path);
Json adapters_schema();

// Overrides `params` by what the request says. Throws RequestError.
void apply_sampling(const Fields& fields, SamplingParams& params);

// Throws RequestError for a logit_bias of a token that the model does not have.
void check_token_ids(const SamplingParams& params, int32_t vocab_size);

// The scheduler's request for choice `index` of a prompt; with a seed, each choice has its own.
GenerateRequest to_generate_request(const RequestOptions& options, const SamplingParams& sampling,
                                    int n_logprobs, std::vector<int32_t> prompt, int index);

}  // namespace mlxr::openai
