#include "daemon/server/fill_in.h"

#include <optional>

#include "daemon/server/http/api_error.h"

namespace mlxr {
namespace {

struct FillInTokens {
  const char* prefix;  // where it is empty, nothing stands there
  const char* suffix;
  const char* middle;
  bool suffix_first = false;
};

constexpr FillInTokens kFormats[] = {
    {"<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"},
    {"<fim_prefix>", "<fim_suffix>", "<fim_middle>"},
    {"<fim-prefix>", "<fim-suffix>", "<fim-middle>"},
    {"<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"},
    {"<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>"},
    {"▁<PRE>", "▁<SUF>", "▁<MID>"},
    {"[PREFIX]", "[SUFFIX]", "", true},
};

bool has(const Tokenizer& tokenizer, const char* token) {
  return *token == '\0' || tokenizer.token_id(token).has_value();
}

const FillInTokens* find_format(const Model& model) {
  if (!model.tokenizer) {
    return nullptr;
  }
  for (const FillInTokens& format : kFormats) {
    if (has(*model.tokenizer, format.prefix) && has(*model.tokenizer, format.suffix) &&
        has(*model.tokenizer, format.middle)) {
      return &format;
    }
  }
  return nullptr;
}

class PromptWriter {
 public:
  explicit PromptWriter(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  PromptWriter& mark(const char* token) {
    if (*token != '\0') {
      tokens_.push_back(*tokenizer_.token_id(token));
    }
    return *this;
  }
  PromptWriter& text(const std::string& text) {
    const std::vector<int32_t> more = tokenizer_.encode(text, false, false);
    tokens_.insert(tokens_.end(), more.begin(), more.end());
    return *this;
  }
  std::vector<int32_t> take() { return std::move(tokens_); }

 private:
  const Tokenizer& tokenizer_;
  std::vector<int32_t> tokens_;
};

}  // namespace

bool can_fill_in(const Model& model) { return find_format(model) != nullptr; }

std::vector<int32_t> fill_in_prompt(const Model& model, const std::string& prefix,
                                    const std::string& suffix) {
  const FillInTokens* format = find_format(model);
  if (format == nullptr) {
    throw bad_field(
        "suffix",
        "\"suffix\": this model's vocabulary has no fill-in-the-middle tokens; leave it "
        "out, or use a model for code",
        "unsupported_parameter");
  }
  PromptWriter writer(*model.tokenizer);
  if (format->suffix_first) {
    return writer.mark(format->suffix).text(suffix).mark(format->prefix).text(prefix).take();
  }
  return writer.mark(format->prefix)
      .text(prefix)
      .mark(format->suffix)
      .text(suffix)
      .mark(format->middle)
      .take();
}

}  // namespace mlxr
