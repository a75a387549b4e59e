#include "daemon/server/ollama/model_json.h"

#include <spdlog/spdlog.h>

#include <array>
#include <cstdio>
#include <filesystem>

#include "core/base/sha256.h"
#include "daemon/server/chat_prompt.h"
#include "daemon/server/fill_in.h"
#include "daemon/server/ollama/answer_format.h"
#include "daemon/server/ollama/requests.h"

namespace mlxr::ollama {
namespace {

namespace fs = std::filesystem;

std::string tagged(const std::string& name) {
  return name.find(':') == std::string::npos ? name + ":latest" : name;
}

std::string as_timestamp(fs::file_time_type time) {
  return timestamp(std::chrono::time_point_cast<std::chrono::system_clock::duration>(
      std::chrono::file_clock::to_sys(time)));
}

std::string modified_at(const fs::path& path) {
  std::error_code problem;
  const auto time = fs::last_write_time(path, problem);
  return as_timestamp(problem ? fs::file_time_type() : time);
}

// A created model is as old as its name, whatever its weights are.
std::string modified_at(const Services& services, const ModelEntry& entry) {
  const auto made = services.created.made(entry.name);
  return made ? as_timestamp(*made) : modified_at(entry.path);
}

// "13.5M", "1.2B"
std::string parameter_size(int64_t parameters) {
  const auto count = static_cast<double>(parameters);
  std::array<char, 32> text{};
  if (count >= 1e9) {
    std::snprintf(text.data(), text.size(), "%.1fB", count / 1e9);
  } else if (count >= 1e6) {
    std::snprintf(text.data(), text.size(), "%.2fM", count / 1e6);
  } else {
    std::snprintf(text.data(), text.size(), "%.2fK", count / 1e3);
  }
  return text.data();
}

Json details(const ModelFacts& facts) {
  return {{"parent_model", ""},
          {"format", to_string(facts.format)},
          {"family", facts.architecture},
          {"families", Json::array({facts.architecture})},
          {"parameter_size", parameter_size(facts.parameters)},
          {"quantization_level", facts.quantization}};
}

// Changes when the file does. Not the content's own digest: that would read every byte.
std::string digest(const std::string& name, const fs::path& path, const ModelFacts& facts) {
  return sha256_hex(name + "\n" + path.string() + "\n" + modified_at(path) + "\n" +
                    std::to_string(facts.weight_bytes));
}

Json entry_json(const Services& services, const ModelEntry& entry, const ModelFacts& facts) {
  return {{"name", tagged(entry.name)},
          {"model", tagged(entry.name)},
          {"modified_at", modified_at(services, entry)},
          {"size", facts.weight_bytes},
          {"digest", digest(entry.name, entry.path, facts)},
          {"details", details(facts)}};
}

// A model that stays for ever is written with a date far away.
std::string expires_at(const Services& services, const std::string& name) {
  constexpr auto kForEver = std::chrono::hours(24 * 365 * 100);
  const auto until = services.models.expires(name);
  const auto left = until ? *until - ModelManager::Clock::now() : kForEver;
  return timestamp(std::chrono::system_clock::now() +
                   std::chrono::duration_cast<std::chrono::system_clock::duration>(left));
}

std::shared_ptr<const Model> open_model(const ModelEntry& entry) {
  try {
    return load_model(entry.path);
  } catch (const Error& error) {
    throw about_model(error, entry);
  }
}

Json capabilities(const Model& model) {
  if (model.encoder || model.facts.pooling) {
    return Json::array({"embedding"});
  }
  Json list = Json::array({"completion"});
  if (can_fill_in(model)) {
    list.push_back("insert");
  }
  const AnswerSyntax syntax = answer_syntax(model);
  if (syntax.tools != ToolFormat::kNone) {
    list.push_back("tools");
  }
  if (syntax.reasoning || syntax.tools == ToolFormat::kHarmony) {
    list.push_back("thinking");
  }
  return list;
}

Json model_info(Services& services, const ModelEntry& entry, const ModelFacts& facts) {
  const std::string& arch = facts.architecture;
  return {{"general.architecture", arch},
          {"general.basename", entry.name},
          {"general.parameter_count", facts.parameters},
          {arch + ".block_count", facts.layers},
          {arch + ".context_length", services.models.context_length(entry.name, facts)},
          {arch + ".embedding_length", facts.hidden_size},
          {arch + ".vocab_size", facts.vocab_size}};
}

std::string parameters_text(const SamplingParams& sampling) {
  std::string text;
  const auto line = [&text](const char* name, const Json& value) {
    text += (text.empty() ? "" : "\n") + std::string(name) + " " + to_text(value);
  };
  line("temperature", short_number(sampling.temperature));
  line("top_k", sampling.top_k);
  line("top_p", short_number(sampling.top_p));
  line("min_p", short_number(sampling.min_p));
  line("repeat_penalty", short_number(sampling.repeat_penalty));
  return text;
}

std::string modelfile(const ModelEntry& entry, const std::string& parameters) {
  std::string text = "FROM " + entry.path.string() + "\nPARAMETER ";
  for (const char c : parameters) {
    text += c == '\n' ? std::string("\nPARAMETER ") : std::string(1, c);
  }
  return text + "\n";
}

std::string quoted(const std::string& text) { return "\"\"\"" + text + "\"\"\""; }

// What was said over the weights.
void add_created(const CreatedModel& model, Json& body) {
  std::string file = "FROM " + model.from.string() + "\n";
  for (const CreatedAdapter& adapter : model.adapters) {
    file += "ADAPTER " + adapter.path.string() + "\n";
  }
  std::string parameters;
  for (const auto& [name, value] : model.parameters.items()) {
    for (const Json& one : value.is_array() ? value : Json::array({value})) {
      parameters += (parameters.empty() ? "" : "\n") + name + " " + to_text(one);
      file += "PARAMETER " + name + " " + to_text(one) + "\n";
    }
  }
  if (!model.chat_template.empty()) {
    file += "TEMPLATE " + quoted(model.chat_template) + "\n";
  }
  if (!model.system.empty()) {
    body["system"] = model.system;
    file += "SYSTEM " + quoted(model.system) + "\n";
  }
  if (!model.messages.empty()) {
    body["messages"] = model.messages;
    for (const Json& message : model.messages) {
      file += "MESSAGE " + message["role"].get<std::string>() + " " +
              quoted(message["content"].get<std::string>()) + "\n";
    }
  }
  if (!model.license.empty()) {
    body["license"] = model.license;
    file += "LICENSE " + quoted(model.license) + "\n";
  }
  body["modelfile"] = file;
  body["parameters"] = parameters;
}

}  // namespace

Json tags_body(Services& services) {
  Json models = Json::array();
  for (const ModelEntry& entry : services.models.list()) {
    try {
      models.push_back(entry_json(services, entry, read_model_facts(entry.path)));
    } catch (const Error& error) {
      spdlog::debug("left out of /api/tags: {}", error.what());
    }
  }
  Json body;
  body["models"] = std::move(models);
  return body;
}

Json ps_body(Services& services) {
  Json models = Json::array();
  for (const LoadedModelInfo& info : services.models.loaded()) {
    Json model = entry_json(services, {info.name, info.path, false}, info.facts);
    model.erase("modified_at");
    model["size"] = info.memory.total() + info.memory.mapped;
    model["expires_at"] = expires_at(services, info.name);
    model["size_vram"] = 0;
    model["context_length"] = info.context_length;
    models.push_back(std::move(model));
  }
  Json body;
  body["models"] = std::move(models);
  return body;
}

Json show_body(Services& services, const std::string& name) {
  const ModelEntry entry = services.models.find(name);
  const ModelSettings settings = services.settings.find(entry.name);
  const std::shared_ptr<const Model> model = open_model(entry);
  const std::string parameters = parameters_text(with_overrides(model->default_sampling, settings));
  const auto created = services.created.find(entry.name);
  Json body{{"modelfile", modelfile(entry, parameters)}, {"parameters", parameters}};
  if (created) {
    add_created(*created, body);
  }
  const std::string own = model->chat_template ? model->chat_template->source() : "";
  body["template"] = settings.chat_template.value_or(own);
  body["details"] = details(model->facts);
  body["details"]["parent_model"] = created ? created->parent : "";
  body["model_info"] = model_info(services, entry, model->facts);
  body["capabilities"] = capabilities(*model);
  body["modified_at"] = modified_at(services, entry);
  return body;
}

}  // namespace mlxr::ollama
