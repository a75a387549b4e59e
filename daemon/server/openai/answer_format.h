// How answers are written in OpenAI's two shapes: chat (messages and deltas) and text completions.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/runtime/tokenizer/tokenizer.h"
#include "daemon/scheduler/scheduler.h"
#include "daemon/server/json_body.h"

namespace mlxr::openai {

struct Usage {
  int64_t prompt_tokens = 0, cached_tokens = 0, completion_tokens = 0;
};
Json to_json(const Usage& usage);

// One choice, as far as it has come.
struct Answer {
  std::string text;
  std::vector<GeneratedLogprob> logprobs;
  std::string finish_reason;
};

class AnswerFormat {
 public:
  // `with_logprobs` as the request asked; `tokenizer` names the alternatives.
  AnswerFormat(std::string id_prefix, std::string model, bool with_logprobs,
               std::shared_ptr<const Tokenizer> tokenizer);
  virtual ~AnswerFormat() = default;

  // Sent before anything is generated, so that the client sees the answer begin.
  virtual std::vector<Json> opening(int choices) = 0;
  virtual Json piece(int choice, const GenerateEvent& event) = 0;
  virtual Json finish(int choice, const std::string& reason) = 0;
  virtual Json whole(const std::vector<Answer>& answers, const Usage& usage) = 0;
  Json usage_piece(const Usage& usage);

 protected:
  Json head(const char* object) const;
  virtual const char* piece_object() const = 0;
  bool with_logprobs() const { return with_logprobs_; }
  const Tokenizer* tokenizer() const { return tokenizer_.get(); }

 private:
  std::string id_;
  std::string model_;
  int64_t created_;
  bool with_logprobs_;
  std::shared_ptr<const Tokenizer> tokenizer_;
};

std::unique_ptr<AnswerFormat> chat_format(std::string model, bool with_logprobs,
                                          std::shared_ptr<const Tokenizer> tokenizer);
std::unique_ptr<AnswerFormat> text_format(std::string model, bool with_logprobs,
                                          std::shared_ptr<const Tokenizer> tokenizer);

// "stop" or "length".
std::string finish_name(FinishReason reason);
// A token's bytes as text; what is not UTF-8 by itself is written "bytes:\xe2\x80", as OpenAI does.
std::string token_text(const std::string& bytes);

}  // namespace mlxr::openai
