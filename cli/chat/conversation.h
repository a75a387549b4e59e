// What is said in a chat and how it is asked for: messages, sampling options, one request body.
#pragma once

#include <filesystem>
#include <string>

#include "cli/client/daemon_client.h"

namespace mlxr::cli {

class Conversation {
 public:
  // `chat`: the model has a chat template; without one the last message is completed as raw text.
  Conversation(std::string model, bool chat) : model_(std::move(model)), chat_(chat) {}

  void set_system(const std::string& text) { system_ = text; }
  // Throws Error{kInvalidArgument} naming the options there are.
  void set_option(const std::string& name, const std::string& value);
  // One of the model's LoRA adapters, in full strength.
  void add_adapter(const std::string& name);
  const Json& options() const { return options_; }
  const std::string& system() const { return system_; }
  const std::string& model() const { return model_; }

  void add(const std::string& role, const std::string& text);
  void clear() { messages_ = Json::array(); }
  // Takes the last answer back. False when there is none.
  bool drop_answer() { return drop_last("assistant"); }
  // Takes back a last question that got no answer.
  void drop_question() { drop_last("user"); }

  // Messages as JSON, whole-file and atomic. load() throws Error{kCorruptFile} for anything else.
  void save(const std::filesystem::path& file) const;
  void load(const std::filesystem::path& file);

  std::string path() const;  // of the endpoint
  Json request() const;

 private:
  bool drop_last(const char* role);

  std::string model_;
  bool chat_;
  std::string system_;
  Json messages_ = Json::array();
  Json options_ = Json::object();
};

}  // namespace mlxr::cli
