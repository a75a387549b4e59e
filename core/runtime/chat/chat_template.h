// Renders a conversation with the model's own Jinja template (transformers' dialect).
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace mlxr {

struct ChatRenderOptions {
  bool add_generation_prompt = true;
  nlohmann::ordered_json tools = nullptr;                           // array, or null
  nlohmann::ordered_json extra = nlohmann::ordered_json::object();  // further template variables
};

class ChatTemplate {
 public:
  // Compiles `source`. bos/eos_token are the texts that the template sees under those names.
  // Throws Error{kCorruptFile} with the template's line when it does not compile.
  ChatTemplate(std::string source, std::string bos_token, std::string eos_token);
  ~ChatTemplate();

  // `messages` is an array of OpenAI-shaped messages (key order is kept: templates print it).
  // `tojson` prints as Python's json.dumps does; `raise_exception`, `strftime_now` and loop
  // controls exist. Throws Error{kInvalidArgument} with the template's own message when it raises.
  std::string render(const nlohmann::ordered_json& messages,
                     const ChatRenderOptions& options) const;

  const std::string& source() const { return source_; }

 private:
  struct Impl;
  std::string source_;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mlxr
