#include "daemon/server/native/rerank.h"

#include <algorithm>

#include "daemon/server/http/api_error.h"

namespace mlxr::native {
namespace {

// A string, or an object with the string "text".
std::string read_document(const Json& document, size_t index) {
  const std::string name = "documents[" + std::to_string(index) + "]";
  std::string text;
  if (document.is_string()) {
    text = document.get<std::string>();
  } else if (document.is_object()) {
    const auto inner = Fields(document, name + ".").string("text");
    if (!inner) {
      throw bad_field(name + ".text", "\"" + name + ".text\" is missing: it is the document");
    }
    text = *inner;
  } else {
    throw bad_field(name, "\"" + name + "\" must be a string or an object with \"text\"");
  }
  if (text.empty()) {
    throw bad_field(name, "\"" + name + "\" is empty; leave it out or give it some text");
  }
  return text;
}

}  // namespace

RerankBody read_rerank_request(const std::string& text) {
  const Json body = parse_json_object(text);
  const Fields fields(body);
  RerankBody request;
  RerankRequest& rerank = request.rerank;
  rerank.options.model = fields.string("model").value_or("");
  openai::read_scheduling(fields, rerank.options);
  rerank.query = fields.string("query").value_or("");
  if (rerank.query.empty()) {
    throw bad_field("query", "\"query\" is missing: it is what documents are ranked for");
  }
  const Json* documents = fields.array("documents");
  if (documents == nullptr || documents->empty()) {
    throw bad_field("documents", "\"documents\" is missing or empty: it is the texts to rank");
  }
  if (documents->size() > kMaxTexts) {
    throw bad_field("documents", "\"documents\" has " + std::to_string(documents->size()) +
                                     " entries; one request may have " + std::to_string(kMaxTexts));
  }
  for (size_t i = 0; i < documents->size(); ++i) {
    rerank.documents.push_back(read_document((*documents)[i], i));
  }
  request.top_n = static_cast<size_t>(fields.integer("top_n", 1, INT32_MAX).value_or(0));
  request.return_documents = fields.boolean("return_documents").value_or(false);
  return request;
}

Json rerank_body(const Ranking& ranking, const RerankBody& request, const std::string& id,
                 const std::string& model) {
  const size_t count = ranking.results.size();
  const size_t shown = request.top_n > 0 ? std::min(request.top_n, count) : count;
  Json results = Json::array();
  for (size_t i = 0; i < shown; ++i) {
    const Ranking::Result& result = ranking.results[i];
    Json entry{{"index", result.index}, {"relevance_score", result.score}};
    if (request.return_documents) {
      entry["document"]["text"] = request.rerank.documents[result.index];
    }
    results.push_back(std::move(entry));
  }
  return {{"id", id},
          {"object", "list"},
          {"model", model},
          {"results", std::move(results)},
          {"usage", {{"prompt_tokens", ranking.tokens}, {"total_tokens", ranking.tokens}}}};
}

}  // namespace mlxr::native
