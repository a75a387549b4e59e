// The bodies of requests for embeddings and rankings, in every API's shape, and their answers.
#include <gtest/gtest.h>

#include "daemon/server/http/api_error.h"
#include "daemon/server/native/rerank.h"
#include "daemon/server/ollama/embed_request.h"
#include "daemon/server/openai/embedding_request.h"

namespace mlxr {
namespace {

using Ids = std::vector<int32_t>;
using Texts = std::vector<openai::PromptInput>;

// The field that a refusal blames.
template <typename Read>
std::string blamed(const Read& read) {
  try {
    read();
  } catch (const RequestError& refused) {
    EXPECT_EQ(refused.error().status, 400);
    EXPECT_FALSE(refused.error().message.empty());
    return refused.error().param;
  }
  return "nothing";
}

TEST(EmbeddingRequest, TakesTextsAndTokens) {
  const auto texts = [](const std::string& input) {
    return openai::read_embedding_request(R"({"model":"m","input":)" + input + "}").embed;
  };
  EXPECT_EQ(texts(R"("a b")").texts, (Texts{"a b"}));
  EXPECT_FALSE(texts(R"("a b")").many);
  EXPECT_EQ(texts(R"(["a","b"])").texts, (Texts{"a", "b"}));
  EXPECT_TRUE(texts(R"(["a"])").many);
  EXPECT_EQ(texts("[1,2]").texts, (Texts{Ids{1, 2}}));
  EXPECT_FALSE(texts("[1,2]").many);
  EXPECT_EQ(texts("[[1],[2,3]]").texts, (Texts{Ids{1}, Ids{2, 3}}));
  EXPECT_FALSE(texts(R"("a")").truncate);
}

TEST(EmbeddingRequest, TakesFormatAndDimensions) {
  const auto request = openai::read_embedding_request(
      R"({"input":"a","encoding_format":"base64","dimensions":3,"timeout":2,"user":"u"})");
  EXPECT_TRUE(request.base64);
  EXPECT_EQ(request.embed.dimensions, 3);
  EXPECT_EQ(request.embed.options.timeout, std::chrono::milliseconds(2000));
  EXPECT_FALSE(openai::read_embedding_request(R"({"input":"a"})").base64);
}

TEST(EmbeddingRequest, BlamesWhatIsWrong) {
  const auto of = [](const std::string& body) {
    return blamed([&] { openai::read_embedding_request(body); });
  };
  EXPECT_EQ(of(R"({"model":"m"})"), "input");
  EXPECT_EQ(of(R"({"input":""})"), "input");
  EXPECT_EQ(of(R"({"input":[]})"), "input");
  EXPECT_EQ(of(R"({"input":["a",""]})"), "input[1]");
  EXPECT_EQ(of(R"({"input":{"a":1}})"), "input");
  EXPECT_EQ(of(R"({"input":[[]]})"), "input");
  EXPECT_EQ(of(R"({"input":"a","dimensions":0})"), "dimensions");
  EXPECT_EQ(of(R"({"input":"a","encoding_format":"int8"})"), "encoding_format");
  std::string many = R"({"input":["a")";
  for (size_t i = 0; i < kMaxTexts; ++i) {
    many += R"(,"a")";
  }
  EXPECT_EQ(of(many + "]}"), "input");
}

TEST(EmbeddingBody, HasNumbersOrTheirBytes) {
  const Embeddings embeddings{{{0.5F, -2}, {1, 0.1F}}, 7};
  const Json numbers = openai::embedding_body(embeddings, "m", false);
  EXPECT_EQ(numbers["object"], "list");
  EXPECT_EQ(numbers["model"], "m");
  EXPECT_EQ(numbers["usage"]["prompt_tokens"], 7);
  EXPECT_EQ(numbers["usage"]["total_tokens"], 7);
  EXPECT_EQ(numbers["data"].size(), 2U);
  EXPECT_EQ(numbers["data"][1]["index"], 1);
  EXPECT_EQ(numbers["data"][0]["object"], "embedding");
  EXPECT_EQ(to_text(numbers["data"][1]["embedding"]), "[1.0,0.1]");
  // 0.5 is 00 00 00 3f, -2 is 00 00 00 c0.
  const Json bytes = openai::embedding_body(embeddings, "m", true);
  EXPECT_EQ(bytes["data"][0]["embedding"], "AAAAPwAAAMA=");
}

TEST(Base64, IsThatOfTheRfc) {
  const std::pair<const char*, const char*> cases[] = {{"", ""},
                                                       {"f", "Zg=="},
                                                       {"fo", "Zm8="},
                                                       {"foo", "Zm9v"},
                                                       {"foob", "Zm9vYg=="},
                                                       {"fooba", "Zm9vYmE="},
                                                       {"foobar", "Zm9vYmFy"}};
  for (const auto& [bytes, text] : cases) {
    EXPECT_EQ(openai::to_base64(bytes), text);
  }
  EXPECT_EQ(openai::to_base64("\xff\xef\xbe"), "/+++");
}

TEST(RerankRequest, TakesStringsAndObjects) {
  const auto request = native::read_rerank_request(
      R"({"model":"m","query":"q","documents":["a",{"text":"b","id":1}],"top_n":1,
          "return_documents":true})");
  EXPECT_EQ(request.rerank.query, "q");
  EXPECT_EQ(request.rerank.documents, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(request.top_n, 1U);
  EXPECT_TRUE(request.return_documents);
}

TEST(RerankRequest, BlamesWhatIsWrong) {
  const auto of = [](const std::string& body) {
    return blamed([&] { native::read_rerank_request(body); });
  };
  EXPECT_EQ(of(R"({"documents":["a"]})"), "query");
  EXPECT_EQ(of(R"({"query":"","documents":["a"]})"), "query");
  EXPECT_EQ(of(R"({"query":"q"})"), "documents");
  EXPECT_EQ(of(R"({"query":"q","documents":[]})"), "documents");
  EXPECT_EQ(of(R"({"query":"q","documents":["a",3]})"), "documents[1]");
  EXPECT_EQ(of(R"({"query":"q","documents":[{"title":"a"}]})"), "documents[0].text");
  EXPECT_EQ(of(R"({"query":"q","documents":["a",""]})"), "documents[1]");
  EXPECT_EQ(of(R"({"query":"q","documents":["a"],"top_n":0})"), "top_n");
}

TEST(RerankBody, ShowsTheBestWithTheirPlaces) {
  native::RerankBody request;
  request.rerank.documents = {"a", "b", "c"};
  request.top_n = 2;
  request.return_documents = true;
  const Ranking ranking{{{2, 0.75}, {0, 0.5}, {1, 0.25}}, 9};
  const Json body = native::rerank_body(ranking, request, "id", "m");
  ASSERT_EQ(body["results"].size(), 2U);
  EXPECT_EQ(body["results"][0]["index"], 2);
  EXPECT_EQ(body["results"][0]["relevance_score"], 0.75);
  EXPECT_EQ(body["results"][0]["document"]["text"], "c");
  EXPECT_EQ(body["usage"]["total_tokens"], 9);
  request.return_documents = false;
  EXPECT_FALSE(native::rerank_body(ranking, request, "id", "m")["results"][0].contains("document"));
}

TEST(OllamaEmbedRequest, TakesBothShapes) {
  const auto request = ollama::read_embed_request(
      R"({"model":"m:latest","input":["a","b"],"truncate":false,"dimensions":4,"keep_alive":"5m",
          "options":{"num_ctx":2048,"temperature":0.5}})",
      false);
  EXPECT_EQ(request.embed.options.model, "m:latest");
  EXPECT_EQ(request.embed.texts, (Texts{"a", "b"}));
  EXPECT_FALSE(request.embed.truncate);
  EXPECT_EQ(request.embed.dimensions, 4);
  EXPECT_EQ(request.keep_alive, std::chrono::minutes(5));
  const auto legacy = ollama::read_embed_request(R"({"model":"m","prompt":"a"})", true);
  EXPECT_EQ(legacy.embed.texts, (Texts{"a"}));
  EXPECT_EQ(legacy.embed.param, "prompt");
  EXPECT_TRUE(legacy.embed.truncate);
}

TEST(OllamaEmbedRequest, OnlyLoadsWithoutInput) {
  for (const char* body : {R"({"model":"m"})", R"({"model":"m","input":""})",
                           R"({"model":"m","input":[]})", R"({"model":"m","dimensions":0})"}) {
    const auto request = ollama::read_embed_request(body, false);
    EXPECT_TRUE(request.embed.texts.empty()) << body;
    EXPECT_TRUE(request.embed.truncate);
    EXPECT_FALSE(request.embed.dimensions);
  }
}

TEST(OllamaEmbedRequest, BlamesWhatIsWrong) {
  const auto of = [](const std::string& body) {
    return blamed([&] { ollama::read_embed_request(body, false); });
  };
  EXPECT_EQ(of(R"({"input":"a"})"), "model");
  EXPECT_EQ(of(R"({"model":"m","input":5})"), "input");
  EXPECT_EQ(of(R"({"model":"m","input":["a",5]})"), "input");
  EXPECT_EQ(of(R"({"model":"m","input":"a","options":{"wings":1}})"), "options.wings");
  EXPECT_EQ(of(R"({"model":"m","input":"a","keep_alive":"soon"})"), "keep_alive");
}

}  // namespace
}  // namespace mlxr
