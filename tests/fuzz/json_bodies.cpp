// The bodies of all three APIs: what comes in is a request in the normal form, or an error that
// blames the client and says something.
#include <array>
#include <exception>

#include "daemon/server/anthropic/request.h"
#include "daemon/server/http/api_error.h"
#include "daemon/server/native/rerank.h"
#include "daemon/server/ollama/embed_request.h"
#include "daemon/server/ollama/requests.h"
#include "daemon/server/openai/chat_request.h"
#include "daemon/server/openai/completion_request.h"
#include "daemon/server/openai/embedding_request.h"
#include "daemon/server/openai/response_request.h"
#include "tests/fuzz/fuzz_input.h"

namespace mlxr::fuzz {

constexpr size_t kReaders = 11;  // the last is Ollama's older embeddings

namespace {

void check_chat(const openai::ChatRequest& chat) {
  promise(chat.messages.is_array(), "messages are an array");
  for (const Json& message : chat.messages) {
    promise(message.is_object() && message.contains("role") && message["role"].is_string(),
            "a message has a role", to_text(message));
    const auto content = message.find("content");
    promise(content == message.end() || content->is_null() || content->is_string() ||
                content->is_array(),
            "content is what templates know", to_text(message));
  }
  promise(chat.tools.is_null() || chat.tools.is_array(), "tools are an array or nothing");
}

Json no_earlier_items(const std::string&) { return Json::array(); }

void read(size_t reader, const std::string& body) {
  switch (reader) {
    case 0:
      return check_chat(openai::read_chat_request(body));
    case 1:
      promise(!openai::read_completion_request(body).prompts.empty(), "there is a prompt");
      return;
    case 2: {
      auto request = openai::read_response_request(body, no_earlier_items);
      check_chat(request.chat);
      openai::blame_text_format(request);
      return;
    }
    case 3:
      return check_chat(anthropic::read_messages_request(body, false).chat);
    case 4:
      return check_chat(anthropic::read_messages_request(body, true).chat);
    case 5: {
      const ollama::ChatRequest request = ollama::read_chat_request(body);
      if (!request.loads_only) check_chat(request.chat);
      return;
    }
    case 6:
      ollama::read_generate_request(body);
      return;
    case 7:
      promise(!openai::read_embedding_request(body).embed.texts.empty(), "there is a text");
      return;
    case 8:
      promise(!native::read_rerank_request(body).rerank.documents.empty(), "there is a document");
      return;
    default:
      ollama::read_embed_request(body, reader == kReaders - 1);
  }
}

}  // namespace
}  // namespace mlxr::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mlxr;
  std::string_view text = fuzz::text_of(data, size);
  const size_t reader = fuzz::choose(text, fuzz::kReaders);
  try {
    fuzz::read(reader, std::string(text));
  } catch (...) {
    const ApiError error = to_api_error(std::current_exception(), false);
    fuzz::promise(error.status >= 400 && error.status < 500 && !error.message.empty(),
                  "a wrong body is the client's mistake", error.message);
    to_json(error);
  }
  return 0;
}
