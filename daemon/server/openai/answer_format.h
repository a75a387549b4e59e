// How answers are written in OpenAI's two shapes: chat (messages and deltas) and text completions.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/runtime/tokenizer/tokenizer.h"
#include "daemon/server/answer_format.h"

namespace mlxr::openai {

Json to_json(const AnswerTotals& totals);

struct FormatOptions {
  std::string model;
  bool with_logprobs = false;
  bool include_usage = false;                            // in a stream
  std::shared_ptr<const Tokenizer> tokenizer = nullptr;  // names the alternatives of logprobs
  std::vector<std::string> echo = {};  // of completions: what each choice's text begins with
  bool echo_logprobs = false;          // which comes with those of its tokens then
  int n = 1, best_of = 1;              // of completions, for each prompt
};

// What both shapes share.
class OpenAiFormat : public AnswerFormat {
 public:
  OpenAiFormat(const std::string& id_prefix, FormatOptions options);

  std::string content_type() const override;
  std::string ping() const override;
  std::string closing(const AnswerTotals& totals) override;
  std::string failure(const ApiError& error) const override;

 protected:
  Json head(const char* object) const;
  std::string chunk(Json piece) const;
  virtual const char* piece_object() const = 0;
  std::string echo(size_t choice) const {
    return choice < options_.echo.size() ? options_.echo[choice] : "";
  }
  bool with_logprobs() const { return options_.with_logprobs; }
  const Tokenizer* tokenizer() const { return options_.tokenizer.get(); }
  const FormatOptions& options() const { return options_; }

 private:
  std::string id_;
  FormatOptions options_;
  int64_t created_;
};

std::unique_ptr<AnswerFormat> chat_format(FormatOptions options);
std::unique_ptr<AnswerFormat> text_format(FormatOptions options);

// A token's bytes as text; what is not UTF-8 by itself is written "bytes:\xe2\x80", as OpenAI does.
std::string token_text(const std::string& bytes);

}  // namespace mlxr::openai
