// A model in a folder: config.json, safetensors (plain or MLX-quantised), tokenizer.json and the
// small files beside them.
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/formats/safetensors.h"
#include "core/runtime/model_files.h"

namespace mlxr {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

json read_json(const fs::path& path) {
  json value = json::parse(read_file(path), nullptr, false);
  if (!value.is_object()) {
    throw Error(ErrorCode::kCorruptFile,
                path.string() + " is not a JSON object; download it again");
  }
  return value;
}

json read_json_if_there(const fs::path& path) {
  return fs::exists(path) ? read_json(path) : json::object();
}

// A token is written as its text, or as an object around it.
std::string token_text(const json& config, const char* key) {
  const auto found = config.find(key);
  if (found == config.end()) return "";
  if (found->is_string()) return found->get<std::string>();
  return found->is_object() ? found->value("content", "") : "";
}

std::string template_source(const fs::path& folder, const json& tokenizer_config) {
  if (fs::exists(folder / "chat_template.jinja")) return read_file(folder / "chat_template.jinja");
  const auto found = tokenizer_config.find("chat_template");
  if (found == tokenizer_config.end()) return "";
  if (found->is_string()) return found->get<std::string>();
  // A list of named templates: the one called "default".
  for (const json& entry : *found) {
    if (entry.is_object() && entry.value("name", "") == "default") {
      return entry.value("template", "");
    }
  }
  return "";
}

void add_stop_tokens(const json& config, std::vector<int32_t>& out) {
  const auto found = config.find("eos_token_id");
  if (found == config.end()) return;
  if (found->is_number_integer()) out.push_back(found->get<int32_t>());
  if (!found->is_array()) return;
  for (const json& id : *found) {
    if (id.is_number_integer()) out.push_back(id.get<int32_t>());
  }
}

SamplingParams sampling_defaults(const json& generation) {
  SamplingParams params;
  const auto read = [&](const char* key, float& value) {
    const auto found = generation.find(key);
    if (found != generation.end() && found->is_number()) value = found->get<float>();
  };
  read("temperature", params.temperature);
  read("top_p", params.top_p);
  read("min_p", params.min_p);
  read("repetition_penalty", params.repeat_penalty);
  const auto top_k = generation.find("top_k");
  if (top_k != generation.end() && top_k->is_number_integer()) params.top_k = top_k->get<int32_t>();
  return params;
}

void read_text(const fs::path& folder, const json& config, OpenedModel& out) {
  const fs::path tokenizer = folder / "tokenizer.json";
  if (!fs::exists(tokenizer)) {
    throw Error(ErrorCode::kNotFound,
                tokenizer.string() + " is missing; download the model again with its tokenizer");
  }
  out.tokenizer = Tokenizer::from_json(read_file(tokenizer));
  const json tokenizer_config = read_json_if_there(folder / "tokenizer_config.json");
  const json generation = read_json_if_there(folder / "generation_config.json");
  add_stop_tokens(config, out.stop_tokens);
  add_stop_tokens(generation, out.stop_tokens);
  const std::string eos = token_text(tokenizer_config, "eos_token");
  if (const auto id = out.tokenizer->token_id(eos)) out.stop_tokens.push_back(*id);
  add_known_stop_tokens(*out.tokenizer, out.stop_tokens);
  out.default_sampling = sampling_defaults(generation);
  const std::string source = template_source(folder, tokenizer_config);
  if (!source.empty()) {
    out.chat_template =
        std::make_shared<ChatTemplate>(source, token_text(tokenizer_config, "bos_token"), eos);
  }
}

// How sentence-transformers says that a model was trained for embeddings, or to rank documents.
std::optional<Pooling> read_pooling(const fs::path& folder) {
  const json card = read_json_if_there(folder / "config_sentence_transformers.json");
  if (card.value("model_type", "") == "CrossEncoder") return Pooling::kRank;
  // Qwen3-Reranker has nothing but its description.
  const fs::path readme = folder / "README.md";
  if (fs::exists(readme) && read_file(readme).find("# Qwen3-Reranker") != std::string::npos) {
    return Pooling::kRank;
  }
  const fs::path path = folder / "1_Pooling" / "config.json";
  if (!fs::exists(path)) return std::nullopt;
  const json config = read_json(path);
  if (config.value("pooling_mode_mean_tokens", false)) return Pooling::kMean;
  if (config.value("pooling_mode_cls_token", false)) return Pooling::kCls;
  if (config.value("pooling_mode_lasttoken", false)) return Pooling::kLast;
  throw Error(ErrorCode::kUnsupported,
              path.string() +
                  " asks for a pooling that this build does not know; it knows "
                  "mean_tokens, cls_token and lasttoken");
}

// The group size of an MLX-quantised folder; 0 when it is not quantised.
int32_t mlx_group_size(const json& config, const std::string& where) {
  const auto found = config.find("quantization");
  if (found == config.end() || !found->is_object()) return 0;
  const std::string mode = found->value("mode", "affine");
  if (mode != "affine") {
    throw Error(ErrorCode::kUnsupported,
                where + " is quantised as \"" + mode + "\"; this build reads MLX's affine mode");
  }
  return hf_integer(*found, "group_size", where);
}

// A value of another type than its key is known for is told with the folder.
template <class Read>
auto reading(const fs::path& folder, const Read& read) {
  try {
    return read();
  } catch (const json::exception& e) {
    throw Error(ErrorCode::kCorruptFile, "a configuration file in " + folder.string() +
                                             " has a value of the wrong type: " + e.what());
  }
}

OpenedModel open_folder(const fs::path& folder) {
  const fs::path config_path = folder / "config.json";
  if (!fs::exists(config_path)) {
    throw Error(ErrorCode::kNotFound,
                folder.string() + " holds no config.json: not a model folder");
  }
  const std::string where = config_path.string();
  const json config = read_json(config_path);
  const Family& family = family_of_hf(config.value("model_type", ""), where);
  OpenedModel out;
  out.spec = family.from_hf(config, where);
  out.names = family.hf_names;
  const int32_t group = mlx_group_size(config, where);
  Safetensors tensors = Safetensors::open_folder(folder);
  out.facts.format = group > 0 ? ModelFormat::kMlx : ModelFormat::kSafetensors;
  out.facts.architecture = config.value("model_type", "");
  std::vector<std::string> modules;
  for (const auto& [name, tensor] : tensors.tensors()) {
    if (name.ends_with(".weight")) modules.push_back(name.substr(0, name.size() - 7));
  }
  out.source = safetensors_source(std::move(tensors), folder.string(), group, family.hf_prefix);
  out.facts.pooling = read_pooling(folder);
  WeightTally tally;
  for (const std::string& module : modules) {
    tally.add(*out.source->weight(module));
    if (const auto bias = out.source->bias(module)) tally.add(*bias);
  }
  tally.fill(out.facts);
  out.read_text = [folder, config](OpenedModel& itself) {
    reading(folder, [&] { read_text(folder, config, itself); });
  };
  return out;
}

}  // namespace

OpenedModel open_folder_model(const fs::path& folder) {
  return reading(folder, [&] { return open_folder(folder); });
}

}  // namespace mlxr
