// The C++ face of the Rust text library's chat templates.
#include "core/runtime/chat/chat_template.h"

#include <utility>

#include "core/runtime/text-ffi/text_ffi.h"

namespace mlxr {

namespace {

struct TemplateDeleter {
  void operator()(mlxr_chat_template* chat_template) const {
    mlxr_chat_template_free(chat_template);
  }
};

}  // namespace

struct ChatTemplate::Impl {
  std::unique_ptr<mlxr_chat_template, TemplateDeleter> handle;
  std::string bos_token;
  std::string eos_token;
};

ChatTemplate::ChatTemplate(std::string source, std::string bos_token, std::string eos_token)
    : source_(std::move(source)), impl_(std::make_unique<Impl>()) {
  mlxr_chat_template* raw = nullptr;
  mlxr_text_buffer error{};
  text_ffi::check(mlxr_chat_template_new(text_ffi::span_of(source_), &raw, &error), error);
  impl_->handle.reset(raw);
  impl_->bos_token = std::move(bos_token);
  impl_->eos_token = std::move(eos_token);
}

ChatTemplate::~ChatTemplate() = default;

std::string ChatTemplate::render(const nlohmann::ordered_json& messages,
                                 const ChatRenderOptions& options) const {
  nlohmann::ordered_json variables = {
      {"messages", messages},          {"tools", options.tools},
      {"documents", nullptr},          {"add_generation_prompt", options.add_generation_prompt},
      {"bos_token", impl_->bos_token}, {"eos_token", impl_->eos_token},
  };
  for (const auto& [name, value] : options.extra.items()) variables[name] = value;
  // Text that clients sent may hold broken UTF-8; it must not stop a rendering.
  const std::string json =
      variables.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  mlxr_text_buffer text{};
  mlxr_text_buffer error{};
  text_ffi::check(
      mlxr_chat_template_render(impl_->handle.get(), text_ffi::span_of(json), &text, &error),
      error);
  return text_ffi::take(text);
}

}  // namespace mlxr
