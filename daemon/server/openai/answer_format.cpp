#include "daemon/server/openai/answer_format.h"

#include <array>
#include <chrono>
#include <cstdio>
#include <random>

namespace mlxr::openai {
namespace {

std::string random_id(const std::string& prefix) {
  static thread_local std::mt19937_64 random{std::random_device{}()};
  std::array<char, 40> text{};
  std::snprintf(text.data(), text.size(), "%016llx%08llx",
                static_cast<unsigned long long>(random()),
                static_cast<unsigned long long>(random() >> 32));
  return prefix + text.data();
}

bool is_utf8(const std::string& bytes) {
  try {
    (void)Json(bytes).dump();
    return true;
  } catch (const Json::exception&) {
    return false;
  }
}

int64_t characters(const std::string& text) {
  int64_t count = 0;
  for (const char c : text) {
    count += (static_cast<unsigned char>(c) & 0xC0) != 0x80 ? 1 : 0;
  }
  return count;
}

Json byte_list(const std::string& bytes) {
  Json list = Json::array();
  for (const char c : bytes) {
    list.push_back(static_cast<int>(static_cast<unsigned char>(c)));
  }
  return list;
}

Json chat_token(const std::string& bytes, float logprob) {
  return {{"token", token_text(bytes)},
          {"logprob", short_number(logprob)},
          {"bytes", byte_list(bytes)}};
}

class ChatFormat : public AnswerFormat {
 public:
  using AnswerFormat::AnswerFormat;

  std::vector<Json> opening(int choices) override {
    std::vector<Json> pieces;
    for (int choice = 0; choice < choices; ++choice) {
      pieces.push_back(delta(choice, {{"role", "assistant"}, {"content", ""}}, nullptr, nullptr));
    }
    return pieces;
  }

  Json piece(int choice, const GenerateEvent& event) override {
    return delta(choice, {{"content", event.text}}, logprobs(event.logprobs), nullptr);
  }

  Json finish(int choice, const std::string& reason) override {
    return delta(choice, Json::object(), nullptr, reason);
  }

  Json whole(const std::vector<Answer>& answers, const Usage& usage) override {
    Json choices = Json::array();
    for (size_t i = 0; i < answers.size(); ++i) {
      choices.push_back(
          {{"index", i},
           {"message", {{"role", "assistant"}, {"content", answers[i].text}, {"refusal", nullptr}}},
           {"logprobs", logprobs(answers[i].logprobs)},
           {"finish_reason", answers[i].finish_reason}});
    }
    Json body = head("chat.completion");
    body["choices"] = std::move(choices);
    body["usage"] = to_json(usage);
    return body;
  }

 protected:
  const char* piece_object() const override { return "chat.completion.chunk"; }

 private:
  Json delta(int choice, Json content, Json probabilities, Json reason) {
    Json body = head(piece_object());
    body["choices"] = Json::array({{{"index", choice},
                                    {"delta", std::move(content)},
                                    {"logprobs", std::move(probabilities)},
                                    {"finish_reason", std::move(reason)}}});
    return body;
  }

  Json logprobs(const std::vector<GeneratedLogprob>& tokens) const {
    if (!with_logprobs()) {
      return nullptr;
    }
    Json content = Json::array();
    for (const GeneratedLogprob& token : tokens) {
      Json entry = chat_token(token.bytes, token.sampled.logprob);
      Json top = Json::array();
      for (const TokenLogprob& other : token.sampled.top) {
        top.push_back(chat_token(tokenizer()->token_bytes(other.token), other.logprob));
      }
      entry["top_logprobs"] = std::move(top);
      content.push_back(std::move(entry));
    }
    return {{"content", std::move(content)}, {"refusal", nullptr}};
  }
};

class TextFormat : public AnswerFormat {
 public:
  using AnswerFormat::AnswerFormat;

  std::vector<Json> opening(int choices) override {
    offsets_.assign(static_cast<size_t>(choices), 0);
    return {};
  }

  Json piece(int choice, const GenerateEvent& event) override {
    int64_t& offset = offsets_.at(static_cast<size_t>(choice));
    return chunk(choice, event.text, logprobs(event.logprobs, offset), nullptr);
  }

  Json finish(int choice, const std::string& reason) override {
    return chunk(choice, "", nullptr, reason);
  }

  Json whole(const std::vector<Answer>& answers, const Usage& usage) override {
    Json choices = Json::array();
    for (size_t i = 0; i < answers.size(); ++i) {
      int64_t offset = 0;
      choices.push_back({{"text", answers[i].text},
                         {"index", i},
                         {"logprobs", logprobs(answers[i].logprobs, offset)},
                         {"finish_reason", answers[i].finish_reason}});
    }
    Json body = head("text_completion");
    body["choices"] = std::move(choices);
    body["usage"] = to_json(usage);
    return body;
  }

 protected:
  const char* piece_object() const override { return "text_completion"; }

 private:
  Json chunk(int choice, std::string text, Json probabilities, Json reason) {
    Json body = head(piece_object());
    body["choices"] = Json::array({{{"text", std::move(text)},
                                    {"index", choice},
                                    {"logprobs", std::move(probabilities)},
                                    {"finish_reason", std::move(reason)}}});
    return body;
  }

  Json logprobs(const std::vector<GeneratedLogprob>& tokens, int64_t& offset) const {
    if (!with_logprobs()) {
      return nullptr;
    }
    Json result{{"tokens", Json::array()},
                {"token_logprobs", Json::array()},
                {"top_logprobs", Json::array()},
                {"text_offset", Json::array()}};
    for (const GeneratedLogprob& token : tokens) {
      Json top = Json::object();
      for (const TokenLogprob& other : token.sampled.top) {
        top[token_text(tokenizer()->token_bytes(other.token))] = short_number(other.logprob);
      }
      result["tokens"].push_back(token_text(token.bytes));
      result["token_logprobs"].push_back(short_number(token.sampled.logprob));
      result["top_logprobs"].push_back(std::move(top));
      result["text_offset"].push_back(offset);
      offset += characters(token.bytes);
    }
    return result;
  }

  std::vector<int64_t> offsets_;  // characters of each choice so far
};

}  // namespace

Json to_json(const Usage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens},
          {"completion_tokens", usage.completion_tokens},
          {"total_tokens", usage.prompt_tokens + usage.completion_tokens},
          {"prompt_tokens_details", {{"cached_tokens", usage.cached_tokens}}}};
}

AnswerFormat::AnswerFormat(std::string id_prefix, std::string model, bool with_logprobs,
                           std::shared_ptr<const Tokenizer> tokenizer)
    : id_(random_id(id_prefix)),
      model_(std::move(model)),
      created_(std::chrono::duration_cast<std::chrono::seconds>(
                   std::chrono::system_clock::now().time_since_epoch())
                   .count()),
      with_logprobs_(with_logprobs),
      tokenizer_(std::move(tokenizer)) {}

Json AnswerFormat::head(const char* object) const {
  return {{"id", id_}, {"object", object}, {"created", created_}, {"model", model_}};
}

Json AnswerFormat::usage_piece(const Usage& usage) {
  Json body = head(piece_object());
  body["choices"] = Json::array();
  body["usage"] = to_json(usage);
  return body;
}

std::unique_ptr<AnswerFormat> chat_format(std::string model, bool with_logprobs,
                                          std::shared_ptr<const Tokenizer> tokenizer) {
  return std::make_unique<ChatFormat>("chatcmpl-", std::move(model), with_logprobs,
                                      std::move(tokenizer));
}

std::unique_ptr<AnswerFormat> text_format(std::string model, bool with_logprobs,
                                          std::shared_ptr<const Tokenizer> tokenizer) {
  return std::make_unique<TextFormat>("cmpl-", std::move(model), with_logprobs,
                                      std::move(tokenizer));
}

std::string finish_name(FinishReason reason) {
  return reason == FinishReason::kLength ? "length" : "stop";
}

std::string token_text(const std::string& bytes) {
  if (is_utf8(bytes)) {
    return bytes;
  }
  std::string text = "bytes:";
  for (const char c : bytes) {
    std::array<char, 8> escaped{};
    std::snprintf(escaped.data(), escaped.size(), "\\x%02x",
                  static_cast<unsigned>(static_cast<unsigned char>(c)));
    text += escaped.data();
  }
  return text;
}

}  // namespace mlxr::openai
