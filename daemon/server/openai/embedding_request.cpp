#include "daemon/server/openai/embedding_request.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "daemon/server/http/api_error.h"

namespace mlxr::openai {
namespace {

void check_texts(const EmbedRequest& request) {
  if (request.texts.size() > kMaxTexts) {
    throw bad_field("input", "\"input\" has " + std::to_string(request.texts.size()) +
                                 " entries; one request may have " + std::to_string(kMaxTexts));
  }
  for (size_t i = 0; i < request.texts.size(); ++i) {
    const auto* text = std::get_if<std::string>(&request.texts[i]);
    if (text != nullptr && text->empty()) {
      const std::string name = request.many ? "input[" + std::to_string(i) + "]" : "input";
      throw bad_field(name, "\"" + name + "\" is an empty string; send some text");
    }
  }
}

// Every machine that this runs on is little-endian.
static_assert(std::endian::native == std::endian::little);
std::string bytes_of(const std::vector<float>& vector) {
  std::string bytes(vector.size() * sizeof(float), '\0');
  std::memcpy(bytes.data(), vector.data(), bytes.size());
  return bytes;
}

Json numbers_of(const std::vector<float>& vector) {
  Json numbers = Json::array();
  for (const float number : vector) {
    numbers.push_back(short_number(number));
  }
  return numbers;
}

}  // namespace

EmbeddingRequest read_embedding_request(const std::string& text) {
  const Json body = parse_json_object(text);
  const Fields fields(body);
  EmbeddingRequest request;
  EmbedRequest& embed = request.embed;
  embed.options.model = fields.string("model").value_or("");
  read_scheduling(fields, embed.options);
  embed.texts = read_prompts(fields, "input");
  const Json& input = body["input"];
  embed.many = input.is_array() && !input.front().is_number();
  check_texts(embed);
  if (const auto dimensions = fields.integer("dimensions", 1, INT32_MAX)) {
    embed.dimensions = static_cast<int32_t>(*dimensions);
  }
  const std::string format = fields.string("encoding_format").value_or("float");
  if (format != "float" && format != "base64") {
    throw bad_field("encoding_format",
                    "\"encoding_format\" must be \"float\" or \"base64\", not \"" + format + "\"");
  }
  request.base64 = format == "base64";
  return request;
}

Json embedding_body(const Embeddings& embeddings, const std::string& model, bool base64) {
  Json data = Json::array();
  for (const std::vector<float>& vector : embeddings.vectors) {
    Json entry{{"object", "embedding"}, {"index", data.size()}};
    entry["embedding"] = base64 ? Json(to_base64(bytes_of(vector))) : numbers_of(vector);
    data.push_back(std::move(entry));
  }
  return {{"object", "list"},
          {"data", std::move(data)},
          {"model", model},
          {"usage", {{"prompt_tokens", embeddings.tokens}, {"total_tokens", embeddings.tokens}}}};
}

std::string to_base64(std::string_view bytes) {
  constexpr std::string_view kAlphabet =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const size_t count = std::min<size_t>(3, bytes.size() - i);
    uint32_t group = 0;
    for (size_t k = 0; k < 3; ++k) {
      group = group << 8 | (k < count ? static_cast<unsigned char>(bytes[i + k]) : 0u);
    }
    for (size_t k = 0; k < 4; ++k) {
      text += k <= count ? kAlphabet[group >> (18 - 6 * k) & 63] : '=';
    }
  }
  return text;
}

}  // namespace mlxr::openai
