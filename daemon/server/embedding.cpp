#include "daemon/server/embedding.h"

#include <algorithm>
#include <utility>

#include "core/runtime/embedding/reranker.h"
#include "daemon/server/adapters.h"
#include "daemon/server/generation.h"
#include "daemon/server/http/api_error.h"

namespace mlxr {
namespace {

using Clock = std::chrono::steady_clock;

// Texts of one request that the scheduler has at a time: enough for full steps, and few enough that
// a request does not fill the queue.
constexpr size_t kAtOnce = 64;

// What is pooled, and how.
struct Text {
  std::vector<int32_t> tokens, token_types;
  Pooling pooling = Pooling::kMean;
};

int64_t count_tokens(const std::vector<Text>& texts) {
  int64_t count = 0;
  for (const Text& text : texts) {
    count += static_cast<int64_t>(text.tokens.size());
  }
  return count;
}

// Sends texts through the scheduler and gathers their vectors, as they were pooled.
class Pooled {
 public:
  Pooled(Services& services, Exchange& exchange, std::shared_ptr<ServedModel> model,
         const openai::RequestOptions& options, std::vector<Text> texts)
      : services_(services),
        exchange_(exchange),
        options_(options),
        adapters_(adapters_for(*model, options.adapters)),
        texts_(std::move(texts)),
        vectors_(texts_.size()),
        generation_(services, exchange, std::move(model)),
        limit_(time_limit(services.config, options.timeout)) {}

  // False when the client went.
  Task<bool> run();
  std::vector<std::vector<float>> take() { return std::move(vectors_); }

 private:
  void submit_some();
  GenerateRequest request_for(Text text) const;
  Task<void> drain();

  Services& services_;
  Exchange& exchange_;
  const openai::RequestOptions options_;
  const std::vector<ScaledAdapter> adapters_;
  std::vector<Text> texts_;
  std::vector<std::vector<float>> vectors_;
  Generation generation_;
  const std::optional<std::chrono::milliseconds> limit_;  // of the whole request
  size_t submitted_ = 0, done_ = 0;
};

GenerateRequest Pooled::request_for(Text text) const {
  GenerateRequest request;
  request.prompt = std::move(text.tokens);
  request.token_types = std::move(text.token_types);
  request.pooling = text.pooling;
  request.adapters = adapters_;
  request.priority = options_.priority;
  request.timeout = options_.timeout;
  return request;
}

// While others fill the queue, the request goes on with the place that it has.
void Pooled::submit_some() {
  while (submitted_ < texts_.size() && submitted_ - done_ < kAtOnce) {
    GenerateRequest request = request_for(texts_[submitted_]);
    try {
      generation_.submit(std::move(request));
    } catch (const QueueFull&) {
      if (submitted_ == done_) {
        throw;
      }
      return;
    }
    ++submitted_;
  }
}

// The owners of what was submitted hear of its end before it goes.
Task<void> Pooled::drain() {
  generation_.cancel();
  while (!generation_.finished()) {
    co_await generation_.next(Clock::time_point::max());
  }
}

Task<bool> Pooled::run() {
  const CancelOnDisconnect guard(exchange_, generation_);
  while (done_ < texts_.size()) {
    if (exchange_.disconnected()) {
      co_await drain();
      exchange_.record.finish = "cancelled";
      co_return false;
    }
    submit_some();
    std::optional<ChoiceEvent> item = co_await generation_.next(Clock::time_point::max());
    if (!item || !item->event.final) {
      continue;
    }
    if (failed(item->event)) {
      if (exchange_.disconnected()) {
        continue;
      }
      if (limit_ && item->event.error_code == ErrorCode::kTimeout) {
        item->event.error = "the request took longer than its timeout of " +
                            std::to_string(limit_->count()) +
                            " ms; allow more time, or send fewer texts at once";
      }
      const ApiError error = failure_of(item->event, services_);
      co_await drain();
      exchange_.record.finish = "error";
      throw RequestError(error);
    }
    ++done_;
    vectors_[static_cast<size_t>(item->choice)] = std::move(item->event.vector);
  }
  exchange_.record.finish = "stop";
  exchange_.record.prompt_tokens = static_cast<int32_t>(count_tokens(texts_));
  co_return true;
}

std::string place(const EmbedRequest& request, size_t index) {
  return request.many ? request.param + "[" + std::to_string(index) + "]" : request.param;
}

RequestError too_long(const std::string& param, const std::string& what, size_t tokens,
                      int32_t window, const std::string& advice) {
  return bad_field(param,
                   what + " has " + std::to_string(tokens) +
                       " tokens and the model's context window holds " + std::to_string(window) +
                       "; " + advice,
                   "context_length_exceeded");
}

// What ends every text of this model, such as [SEP], stays.
void cut(std::vector<int32_t>& tokens, size_t window, const Tokenizer* tokenizer) {
  const bool marked = tokenizer != nullptr && tokenizer->is_special(tokens.back());
  const int32_t last = tokens.back();
  tokens.resize(window);
  if (marked) {
    tokens.back() = last;
  }
}

std::vector<int32_t> tokens_of(const Model& model, const openai::PromptInput& input,
                               const std::string& name) {
  const auto* text = std::get_if<std::string>(&input);
  std::vector<int32_t> tokens = text != nullptr ? tokenizer_of(model)->encode(*text, true, false)
                                                : std::get<std::vector<int32_t>>(input);
  if (tokens.empty()) {
    throw bad_field(name, "\"" + name + "\" is empty; send at least one token of text");
  }
  for (const int32_t token : tokens) {
    if (token < 0 || token >= model.facts.vocab_size) {
      throw bad_field(name, "\"" + name + "\" names token " + std::to_string(token) +
                                "; this model's tokens are 0 to " +
                                std::to_string(model.facts.vocab_size - 1));
    }
  }
  return tokens;
}

std::vector<Text> texts_to_embed(ServedModel& served, const EmbedRequest& request) {
  const Model& model = served.model();
  const int32_t window = served.scheduler().context_length();
  std::vector<Text> texts;
  for (size_t i = 0; i < request.texts.size(); ++i) {
    const std::string name = place(request, i);
    Text text{tokens_of(model, request.texts[i], name), {}, embedding_pooling(model)};
    if (text.tokens.size() > static_cast<size_t>(window)) {
      if (!request.truncate) {
        throw too_long(name, "\"" + name + "\"", text.tokens.size(), window,
                       "shorten it, or embed it in parts");
      }
      cut(text.tokens, static_cast<size_t>(window), model.tokenizer.get());
    }
    texts.push_back(std::move(text));
  }
  return texts;
}

void check_dimensions(const Model& model, const EmbedRequest& request) {
  const int32_t most = model.facts.hidden_size;
  if (request.dimensions && *request.dimensions > most) {
    throw bad_field("dimensions", "\"dimensions\" is " + std::to_string(*request.dimensions) +
                                      "; this model's embeddings have " + std::to_string(most));
  }
}

std::vector<Text> texts_to_judge(ServedModel& served, const RerankRequest& request) {
  const Model& model = served.model();
  const int32_t window = served.scheduler().context_length();
  (void)tokenizer_of(model);
  std::vector<Text> texts;
  for (size_t i = 0; i < request.documents.size(); ++i) {
    RankInput input = rank_input(model, request.query, request.documents[i]);
    if (input.tokens.size() > static_cast<size_t>(window)) {
      const std::string name = "documents[" + std::to_string(i) + "]";
      throw too_long(name, "\"" + name + "\" together with the query", input.tokens.size(), window,
                     "shorten one of them, or rank the document in parts");
    }
    texts.push_back({std::move(input.tokens), std::move(input.token_types), rank_pooling(model)});
  }
  return texts;
}

// The documents, then the query.
std::vector<Text> texts_to_compare(ServedModel& served, const RerankRequest& request) {
  EmbedRequest documents{.options = request.options, .texts = {}, .param = "documents"};
  for (const std::string& document : request.documents) {
    documents.texts.emplace_back(document);
  }
  std::vector<Text> texts = texts_to_embed(served, documents);
  EmbedRequest query{.options = request.options, .texts = {}, .param = "query", .many = false};
  query.texts.emplace_back(request.query);
  texts.push_back(texts_to_embed(served, query).front());
  return texts;
}

}  // namespace

Task<std::optional<Embeddings>> embed(Services& services, Exchange& exchange,
                                      std::shared_ptr<ServedModel> model,
                                      const EmbedRequest& request) {
  std::vector<Text> texts = co_await services.run_on(services.work, [&] {
    check_dimensions(model->model(), request);
    return texts_to_embed(*model, request);
  });
  Embeddings out;
  out.tokens = count_tokens(texts);
  Pooled pooled(services, exchange, model, request.options, std::move(texts));
  if (!co_await pooled.run()) {
    co_return std::nullopt;
  }
  for (std::vector<float>& vector : pooled.take()) {
    vector = normalized(std::move(vector));
    const size_t dimensions = static_cast<size_t>(request.dimensions.value_or(0));
    out.vectors.push_back(dimensions > 0 ? shortened(std::move(vector), dimensions)
                                         : std::move(vector));
  }
  co_return out;
}

Task<std::optional<Ranking>> rerank(Services& services, Exchange& exchange,
                                    std::shared_ptr<ServedModel> model,
                                    const RerankRequest& request) {
  const bool judges = is_reranker(model->model());
  std::vector<Text> texts = co_await services.run_on(services.work, [&] {
    return judges ? texts_to_judge(*model, request) : texts_to_compare(*model, request);
  });
  Ranking out;
  out.tokens = count_tokens(texts);
  Pooled pooled(services, exchange, model, request.options, std::move(texts));
  if (!co_await pooled.run()) {
    co_return std::nullopt;
  }
  const std::vector<std::vector<float>> vectors = pooled.take();
  for (size_t i = 0; i < request.documents.size(); ++i) {
    out.results.push_back(
        {i, judges ? relevance(model->model(), vectors[i]) : cosine(vectors.back(), vectors[i])});
  }
  std::stable_sort(out.results.begin(), out.results.end(),
                   [](const auto& a, const auto& b) { return a.score > b.score; });
  co_return out;
}

}  // namespace mlxr
