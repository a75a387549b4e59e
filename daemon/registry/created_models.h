// Models that clients made out of others: weights where they lie, and what is said over them
// (a template, a system prompt, parameters, messages, adapters). Each is one small file in
// $MLXR_HOME.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace mlxr {

// A LoRA adapter that all chats with a created model have.
struct CreatedAdapter {
  std::string name;
  std::filesystem::path path;
};

struct CreatedModel {
  std::string name;            // "mario", "team/mario:v2"
  std::filesystem::path from;  // a model file or folder
  std::string parent;          // the model that it was made from; may be empty
  std::string chat_template;   // Jinja; empty: the weights' own
  std::string system;          // the system prompt of chats that bring none
  std::string license;
  std::vector<CreatedAdapter> adapters;                                  // added up
  nlohmann::ordered_json messages = nlohmann::ordered_json::array();     // what chats begin with
  nlohmann::ordered_json parameters = nlohmann::ordered_json::object();  // Ollama's options
};

// Thread-safe: every call reads the folder anew, files are replaced whole.
class CreatedModels {
 public:
  explicit CreatedModels(std::filesystem::path folder) : folder_(std::move(folder)) {}

  // Sorted by name. Files that cannot be read are left out, with a line in the log.
  std::vector<CreatedModel> list() const;
  std::optional<CreatedModel> find(const std::string& name) const;
  // When the model of that name was put here; nothing where there is none.
  std::optional<std::filesystem::file_time_type> made(const std::string& name) const;
  // Replaces one of that name. Throws Error{kInvalidArgument} for a name that is none, Error{kIo}.
  void put(const CreatedModel& model) const;
  // False: there is none.
  bool erase(const std::string& name) const;

 private:
  std::filesystem::path file_of(const std::string& name) const;

  std::filesystem::path folder_;
};

// Throws Error{kInvalidArgument} with what a name may be: parts of letters, digits, '.', '_', '-'
// between slashes, then perhaps ':' and a tag.
void check_model_name(const std::string& name);

}  // namespace mlxr
