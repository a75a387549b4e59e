#include "daemon/server/native/tokenize.h"

#include "daemon/server/chat_prompt.h"
#include "daemon/server/created.h"
#include "daemon/server/http/api_error.h"
#include "daemon/server/openai/completion_request.h"

namespace mlxr::native {
namespace {

// Text, or its bytes where a token ends inside a character.
Json piece_of(const std::string& bytes) {
  Json text = bytes;
  try {
    (void)text.dump();
    return text;
  } catch (const Json::exception&) {
    Json numbers = Json::array();
    for (const char byte : bytes) {
      numbers.push_back(static_cast<unsigned char>(byte));
    }
    return numbers;
  }
}

Json llama_server_body(const Tokenizer& tokenizer, const std::vector<int32_t>& tokens,
                       bool with_pieces) {
  if (!with_pieces) {
    return {{"tokens", tokens}};
  }
  Json list = Json::array();
  for (const int32_t token : tokens) {
    list.push_back({{"id", token}, {"piece", piece_of(tokenizer.token_bytes(token))}});
  }
  return {{"tokens", std::move(list)}};
}

Json vllm_body(const Tokenizer& tokenizer, const std::vector<int32_t>& tokens, bool with_pieces,
               int32_t context_length) {
  Json pieces = nullptr;
  if (with_pieces) {
    pieces = Json::array();
    for (const int32_t token : tokens) {
      pieces.push_back(tokenizer.token_bytes(token));
    }
  }
  return {{"count", tokens.size()},
          {"max_model_len", context_length},
          {"tokens", tokens},
          {"token_strs", std::move(pieces)}};
}

void read_vllm(const std::string& text, const Fields& fields, TokenizeRequest& request) {
  request.with_pieces = fields.boolean("return_token_strs").value_or(false);
  request.add_special = fields.boolean("add_special_tokens").value_or(true);
  if (!fields.has("messages")) {
    const auto prompt = fields.string("prompt");
    if (!prompt) {
      throw bad_field("prompt",
                      "\"prompt\" is missing: it is the text to tokenize (\"content\" in "
                      "llama-server's shape, \"messages\" for a chat)");
    }
    request.text = *prompt;
    return;
  }
  if (!fields.boolean("add_generation_prompt").value_or(true)) {
    throw bad_field("add_generation_prompt", "\"add_generation_prompt\" false is not supported",
                    "unsupported_parameter");
  }
  request.chat = openai::read_chat_request(text);
}

}  // namespace

TokenizeRequest read_tokenize_request(const std::string& text) {
  const Json body = parse_json_object(text);
  const Fields fields(body);
  TokenizeRequest request;
  request.model = fields.string("model").value_or("");
  const auto content = fields.string("content");
  if (!content) {
    read_vllm(text, fields, request);
    return request;
  }
  request.is_llama_server = true;
  request.text = *content;
  request.add_special = fields.boolean("add_special").value_or(false);
  request.parse_special = fields.boolean("parse_special").value_or(true);
  request.with_pieces = fields.boolean("with_pieces").value_or(false);
  return request;
}

DetokenizeRequest read_detokenize_request(const std::string& text) {
  const Json body = parse_json_object(text);
  const Fields fields(body);
  const Json* tokens = fields.array("tokens");
  if (tokens == nullptr) {
    throw bad_field("tokens", "\"tokens\" is missing: it is an array of token ids");
  }
  return {fields.string("model").value_or(""), openai::read_token_ids(*tokens, "tokens")};
}

std::vector<int32_t> token_ids(Services& services, const ServedModel& model,
                               const TokenizeRequest& request) {
  const Tokenizer& tokenizer = *tokenizer_of(model.model());
  return request.chat ? build_chat_prompt(services, model.model(),
                                          with_created(services, model.name(), *request.chat))
                            .tokens
                      : tokenizer.encode(request.text, request.add_special, request.parse_special);
}

Json tokenize(Services& services, const ServedModel& model, const TokenizeRequest& request) {
  const Tokenizer& tokenizer = *tokenizer_of(model.model());
  const std::vector<int32_t> tokens = token_ids(services, model, request);
  if (request.is_llama_server) {
    return llama_server_body(tokenizer, tokens, request.with_pieces);
  }
  return vllm_body(tokenizer, tokens, request.with_pieces,
                   services.models.context_length(model.name(), model.model().facts));
}

std::string text_of(const ServedModel& model, const DetokenizeRequest& request) {
  const Tokenizer& tokenizer = *tokenizer_of(model.model());
  for (const int32_t token : request.tokens) {
    if (token < 0 || token >= tokenizer.vocab_size()) {
      throw bad_field("tokens", "\"tokens\" names token " + std::to_string(token) +
                                    "; this model's tokens are 0 to " +
                                    std::to_string(tokenizer.vocab_size() - 1));
    }
  }
  return tokenizer.decode(request.tokens, false);
}

Json detokenize(const ServedModel& model, const DetokenizeRequest& request) {
  const std::string text = text_of(model, request);
  return {{"prompt", text}, {"content", text}};
}

}  // namespace mlxr::native
