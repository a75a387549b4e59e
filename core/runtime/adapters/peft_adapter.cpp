// Adapters as PEFT saves them.
// Source: https://huggingface.co/docs/peft/developer_guides/checkpoint
#include <array>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/formats/safetensors.h"
#include "core/runtime/adapters/adapter_file.h"

namespace mlxr {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

[[noreturn]] void unsupported(const fs::path& where, const std::string& what) {
  throw Error(ErrorCode::kUnsupported, where.string() + " " + what);
}

bool is_set(const json& config, const char* key) {
  const auto found = config.find(key);
  if (found == config.end() || found->is_null()) return false;
  if (found->is_boolean()) return found->get<bool>();
  return !((found->is_structured() || found->is_string()) && found->empty());
}

// What changes a model in ways that low-rank terms cannot say.
void refuse_other_methods(const json& config, const fs::path& where) {
  struct Feature {
    const char* key;
    const char* what;
  };
  static constexpr std::array<Feature, 9> kFeatures{{
      {"use_dora", "is a DoRA adapter (\"use_dora\")"},
      {"use_qalora", "is a QALoRA adapter (\"use_qalora\")"},
      {"lora_bias", "has biases beside lora_B (\"lora_bias\")"},
      {"modules_to_save", "replaces whole modules (\"modules_to_save\")"},
      {"trainable_token_indices", "changes embeddings (\"trainable_token_indices\")"},
      {"target_parameters", "adapts bare parameters (\"target_parameters\")"},
      {"layer_replication", "repeats layers (\"layer_replication\")"},
      {"alora_invocation_tokens", "is an aLoRA adapter (\"alora_invocation_tokens\")"},
      {"fan_in_fan_out", "adapts transposed weights (\"fan_in_fan_out\")"},
  }};
  for (const Feature& feature : kFeatures) {
    if (is_set(config, feature.key)) {
      unsupported(where,
                  std::string(feature.what) + ", which this build does not apply; it applies LoRA");
    }
  }
  const std::string bias = config.value("bias", "none");
  if (bias != "none") {
    unsupported(where, "changes biases (\"bias\": \"" + bias + "\"), which this build does not");
  }
  // These begin from a changed base model, and say so nowhere else.
  const auto begin = config.find("init_lora_weights");
  if (begin == config.end() || !begin->is_string()) return;
  const auto how = begin->get<std::string>();
  for (const char* changed : {"pissa", "olora", "corda"}) {
    if (how.starts_with(changed)) {
      unsupported(where, "belongs to a base model changed by \"init_lora_weights\": \"" + how +
                             "\"; save it converted to plain LoRA");
    }
  }
}

struct Config {
  fs::path path;
  double rank = 0, alpha = 0;
  bool rank_stabilized = false;
  std::map<std::string, double> ranks, alphas;  // of modules that have others
};

std::map<std::string, double> read_pattern(const json& config, const char* key,
                                           const fs::path& where) {
  std::map<std::string, double> pattern;
  if (!is_set(config, key)) return pattern;
  for (const auto& [module, value] : config.at(key).items()) {
    if (module.find_first_of("^$*+?()[]{}|\\") != std::string::npos) {
      unsupported(where, "has the expression \"" + module + "\" in \"" + key +
                             "\"; this build reads plain names of modules there");
    }
    pattern[module] = value.get<double>();
  }
  return pattern;
}

// A name matches modules that it is the end of.
double value_for(const std::string& module, const std::map<std::string, double>& pattern,
                 double otherwise) {
  for (const auto& [name, value] : pattern) {
    if (module == name || module.ends_with("." + name)) return value;
  }
  return otherwise;
}

Config read_config(const fs::path& path) {
  const json config = json::parse(read_file(path), nullptr, false);
  if (!config.is_object()) {
    throw Error(ErrorCode::kCorruptFile, path.string() + " is not a JSON object; copy it again");
  }
  const std::string type =
      is_set(config, "peft_type") ? config.at("peft_type").get<std::string>() : "";
  if (type != "LORA") {
    unsupported(path, type.empty() ? "states no \"peft_type\": it is not PEFT's"
                                   : "is of type \"" + type + "\"; this build applies LORA");
  }
  refuse_other_methods(config, path);
  Config out{.path = path,
             .rank = config.at("r").get<double>(),
             .alpha = config.at("lora_alpha").get<double>(),
             .rank_stabilized = is_set(config, "use_rslora"),
             .ranks = read_pattern(config, "rank_pattern", path),
             .alphas = read_pattern(config, "alpha_pattern", path)};
  return out;
}

// ---- Tensors ----

constexpr std::string_view kPrefix = "base_model.model.";
constexpr std::string_view kPeftA = ".lora_A.weight", kPeftB = ".lora_B.weight";

[[noreturn]] void refuse_tensor(const fs::path& path, const std::string& name) {
  const auto has = [&](const char* part) { return name.find(part) != std::string::npos; };
  const char* what = has("lora_magnitude_vector")                    ? "a part of DoRA"
                     : has("lora_embedding_") || has("embed_tokens") ? "of embeddings"
                     : has("lm_head")                                ? "of the vocabulary's matrix"
                     : name.ends_with(".bias")                       ? "a bias"
                     : has("lora_") ? "no part of LoRA as PEFT names them"
                                    : "a whole module (\"modules_to_save\")";
  unsupported(path, "has the tensor \"" + name + "\", " + what +
                        ", which this build does not apply; it applies lora_A and lora_B of "
                        "linear layers");
}

std::string module_of(const fs::path& path, const std::string& name, std::string_view ending) {
  if (!name.starts_with(kPrefix) || name.size() <= kPrefix.size() + ending.size()) {
    refuse_tensor(path, name);
  }
  return name.substr(kPrefix.size(), name.size() - kPrefix.size() - ending.size());
}

AdapterPart read_part(const Safetensors& tensors, const Config& config, const fs::path& path,
                      const std::string& module) {
  const auto find = [&](std::string_view ending) {
    const std::string name = std::string(kPrefix) + module + std::string(ending);
    const RawTensor* tensor = tensors.find(name);
    if (tensor == nullptr) {
      throw Error(ErrorCode::kCorruptFile, path.string() + " lacks the tensor \"" + name +
                                               "\"; download or save the adapter again");
    }
    return as_weight(name, *tensor);
  };
  AdapterPart part{.module = module, .a = find(kPeftA), .b = find(kPeftB)};
  const int64_t rank = rank_of(path, part.a, part.b);
  const double stated = value_for(module, config.ranks, config.rank);
  if (static_cast<double>(rank) != stated) {
    throw Error(ErrorCode::kCorruptFile,
                path.string() + " has the tensor \"" + part.a.name + "\" of shape " +
                    shape_text(part.a.shape) + ", whose rank is " + std::to_string(rank) +
                    " where " + config.path.string() + " states " + json(stated).dump());
  }
  const double alpha = value_for(module, config.alphas, config.alpha);
  part.scale = static_cast<float>(alpha / (config.rank_stabilized ? std::sqrt(stated) : stated));
  return part;
}

AdapterFile read_folder(const fs::path& folder) {
  const Config config = read_config(folder / "adapter_config.json");
  const fs::path path = folder / "adapter_model.safetensors";
  if (!fs::exists(path)) {
    const bool pickled = fs::exists(folder / "adapter_model.bin");
    throw Error(ErrorCode::kNotFound,
                path.string() + (pickled ? " is missing: adapter_model.bin is not read, save the "
                                           "adapter with safe_serialization=True"
                                         : " is missing; download the adapter again"));
  }
  const Safetensors tensors = Safetensors::open_file(path);
  AdapterFile out{.path = folder, .gguf = false, .parts = {}, .files = tensors.files()};
  for (const auto& [name, tensor] : tensors.tensors()) {
    if (name.ends_with(kPeftA)) {
      out.parts.push_back(read_part(tensors, config, path, module_of(path, name, kPeftA)));
    } else if (!name.ends_with(kPeftB)) {
      refuse_tensor(path, name);
    } else {
      read_part(tensors, config, path, module_of(path, name, kPeftB));  // there is an A
    }
  }
  return out;
}

}  // namespace

AdapterFile read_peft_adapter(const fs::path& folder) {
  try {
    return read_folder(folder);
  } catch (const json::exception& e) {  // a key that is missing, or of another type
    throw Error(ErrorCode::kCorruptFile,
                (folder / "adapter_config.json").string() +
                    " has a value of the wrong type or lacks one: " + e.what());
  }
}

}  // namespace mlxr
