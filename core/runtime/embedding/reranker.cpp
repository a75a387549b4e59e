#include "core/runtime/embedding/reranker.h"

#include <algorithm>
#include <cmath>

#include "core/base/error.h"
#include "core/runtime/embedding/pooling.h"
#include "core/runtime/model.h"

namespace mlxr {
namespace {

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

void append(std::vector<int32_t>& to, std::span<const int32_t> more) {
  to.insert(to.end(), more.begin(), more.end());
}

// [CLS] query [SEP] document [SEP], the document's with token type 1.
RankInput pair_of_segments(const Model& model, const std::string& query,
                           const std::string& document) {
  RankInput input;
  input.tokens = model.tokenizer->encode(query, true, false);
  const size_t first = input.tokens.size();
  const std::vector<int32_t> second = model.tokenizer->encode(document, true, false);
  append(input.tokens, std::span(second).subspan(std::min<size_t>(1, second.size())));
  if (model.spec.token_types > 1) {
    input.token_types.assign(input.tokens.size(), 1);
    std::fill_n(input.token_types.begin(), first, 0);
  }
  return input;
}

void replace(std::string& text, const std::string& what, const std::string& by) {
  const size_t at = text.find(what);
  if (at != std::string::npos) text.replace(at, what.size(), by);
}

// Only the template's own words may become control tokens: it is cut at those around the query and
// the document.
std::vector<int32_t> asked(const Model& model, const std::string& query,
                           const std::string& document) {
  const std::string& prompt = model.yes_no->prompt;
  const size_t before = prompt.rfind("|>", prompt.find("{query}"));
  const size_t after = prompt.find("<|", prompt.find("{document}"));
  const size_t begin = before == std::string::npos ? 0 : before + 2;
  const size_t end = std::min(after, prompt.size());
  std::string typed = prompt.substr(begin, end - begin);
  replace(typed, "{document}", document);  // behind the query: what is in it is not looked at again
  replace(typed, "{query}", query);
  const Tokenizer& tokenizer = *model.tokenizer;
  std::vector<int32_t> tokens = tokenizer.encode(prompt.substr(0, begin), false, true);
  append(tokens, tokenizer.encode(typed, false, false));
  append(tokens, tokenizer.encode(prompt.substr(end), false, true));
  return tokens;
}

}  // namespace

std::string default_rerank_prompt() {
  return "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query "
         "and the Instruct provided. Note that the answer can only be \"yes\" or \"no\"."
         "<|im_end|>\n<|im_start|>user\n<Instruct>: Given a web search query, retrieve relevant "
         "passages that answer the query\n<Query>: {query}\n<Document>: {document}<|im_end|>\n"
         "<|im_start|>assistant\n<think>\n\n</think>\n\n";
}

bool is_reranker(const Model& model) {
  return model.yes_no || (model.encoder && model.encoder->classifier && model.spec.classes <= 2);
}

RankInput rank_input(const Model& model, const std::string& query, const std::string& document) {
  if (model.yes_no) return {asked(model, query, document), {}};
  return pair_of_segments(model, query, document);
}

Pooling rank_pooling(const Model& model) { return model.yes_no ? Pooling::kLast : Pooling::kCls; }

double relevance(const Model& model, std::span<const float> state) {
  if (model.yes_no) return sigmoid(dot(model.yes_no->yes, state) - dot(model.yes_no->no, state));
  const std::vector<float> outputs = classify(*model.encoder->classifier, state);
  // One output is a logit; of two, the second means "relevant".
  return sigmoid(outputs.size() == 1 ? outputs[0] : double{outputs[1]} - outputs[0]);
}

}  // namespace mlxr
