#include "cli/chat/conversation.h"

#include <cerrno>
#include <cstdlib>

#include "core/base/error.h"
#include "core/base/file.h"

namespace mlxr::cli {
namespace {

struct Option {
  const char* name;
  bool integer;
};
constexpr Option kNumbers[] = {{"temperature", false}, {"top_p", false}, {"min_p", false},
                               {"top_k", true},        {"seed", true},   {"max_tokens", true}};

Json parse_number(const Option& option, const std::string& value) {
  char* end = nullptr;
  errno = 0;
  const Json number = option.integer ? Json(std::strtoll(value.c_str(), &end, 10))
                                     : Json(std::strtod(value.c_str(), &end));
  if (value.empty() || *end != '\0' || errno != 0) {
    throw Error(ErrorCode::kInvalidArgument, std::string(option.name) + " takes " +
                                                 (option.integer ? "an integer" : "a number") +
                                                 ", not \"" + value + "\"");
  }
  return number;
}

}  // namespace

void Conversation::set_option(const std::string& name, const std::string& value) {
  if (name == "stop") {
    if (!options_.contains("stop")) options_["stop"] = Json::array();
    options_["stop"].push_back(value);
    return;
  }
  for (const Option& option : kNumbers) {
    if (name == option.name) {
      options_[name] = parse_number(option, value);
      return;
    }
  }
  throw Error(ErrorCode::kInvalidArgument,
              "there is no option \"" + name +
                  "\"; there are temperature, top_p, top_k, min_p, seed, max_tokens and stop");
}

void Conversation::add_adapter(const std::string& name) {
  Json adapter = Json::object();
  adapter["name"] = name;
  if (!options_.contains("lora")) options_["lora"] = Json::array();
  options_["lora"].push_back(std::move(adapter));
}

void Conversation::add(const std::string& role, const std::string& text) {
  messages_.push_back({{"role", role}, {"content", text}});
}

bool Conversation::drop_last(const char* role) {
  if (messages_.empty() || messages_.back()["role"] != role) return false;
  messages_.erase(messages_.size() - 1);
  return true;
}

void Conversation::save(const std::filesystem::path& file) const {
  const Json saved = {{"model", model_}, {"system", system_}, {"messages", messages_}};
  write_file_atomic(file, saved.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

void Conversation::load(const std::filesystem::path& file) {
  const Json saved = Json::parse(read_file(file), nullptr, false);
  bool good = saved.is_object() && saved.contains("messages") && saved["messages"].is_array();
  for (size_t i = 0; good && i < saved["messages"].size(); ++i) {
    const Json& message = saved["messages"][i];
    good = message.is_object() && message.contains("role") && message["role"].is_string() &&
           message.contains("content") && message["content"].is_string();
  }
  if (!good) {
    throw Error(ErrorCode::kCorruptFile, file.string() + " is not a conversation that /save wrote");
  }
  messages_ = saved["messages"];
  if (saved.contains("system") && saved["system"].is_string()) system_ = saved["system"];
}

std::string Conversation::path() const {
  return chat_ ? "/v1/chat/completions" : "/v1/completions";
}

Json Conversation::request() const {
  Json body = options_;
  body["model"] = model_;
  if (!chat_) {
    body["prompt"] = messages_.empty() ? Json("") : messages_.back()["content"];
    return body;
  }
  Json messages = Json::array();
  if (!system_.empty()) messages.push_back({{"role", "system"}, {"content", system_}});
  for (const Json& message : messages_) messages.push_back(message);
  body["messages"] = std::move(messages);
  return body;
}

}  // namespace mlxr::cli
