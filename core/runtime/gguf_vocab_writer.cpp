#include "core/runtime/gguf_vocab_writer.h"

#include <nlohmann/json.hpp>
#include <optional>

#include "core/base/error.h"
#include "core/base/file.h"

namespace mlxr {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// Token types of GGUF.
constexpr int64_t kNormal = 1, kControl = 3, kUserDefined = 4, kUnused = 5;

json read_object(const fs::path& path) {
  if (!fs::exists(path)) return json::object();
  json value = json::parse(read_file(path), nullptr, false);
  if (!value.is_object())
    throw Error(ErrorCode::kCorruptFile, path.string() + " is not a JSON object");
  return value;
}

// GGUF names the pre-tokenizer instead of describing it. Recognised by its parts, with every
// regular expression compared as written.
std::string pre_tokenizer_name(const json& tokenizer, const std::string& where) {
  const json pre = tokenizer.value("pre_tokenizer", json());
  std::vector<json> parts;
  if (pre.is_object() && pre.value("type", "") == "Sequence") {
    parts = pre.value("pretokenizers", std::vector<json>());
  } else if (pre.is_object()) {
    parts.push_back(pre);
  }
  const auto is = [&](size_t i, const char* type) {
    return i < parts.size() && parts[i].value("type", "") == type;
  };
  const auto splits_by = [&](size_t i, const char* start) {
    if (!is(i, "Split")) return false;
    const json pattern = parts[i].value("pattern", json::object());
    return pattern.value("Regex", "").starts_with(start);
  };
  if (parts.size() == 1 && is(0, "ByteLevel") && parts[0].value("use_regex", true)) return "gpt-2";
  if (parts.size() == 2 && is(0, "Digits") && parts[0].value("individual_digits", false) &&
      is(1, "ByteLevel") && parts[1].value("use_regex", true)) {
    return "smollm";
  }
  // The published expressions of Llama 3 and Qwen 2 differ in how many digits go together.
  const std::string contractions = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|";
  if (splits_by(0, (contractions + "\\p{N}{1,3}|").c_str())) return "llama-bpe";
  if (splits_by(0, (contractions + "\\p{N}|").c_str())) return "qwen2";
  throw Error(ErrorCode::kUnsupported,
              where + " splits text in a way that has no name in GGUF known to this build");
}

struct Vocab {
  std::vector<std::string> tokens;
  std::vector<int64_t> types;
};

Vocab read_tokens(const json& tokenizer, int32_t size) {
  Vocab out;
  out.tokens.resize(static_cast<size_t>(size));
  out.types.assign(out.tokens.size(), kUnused);
  const auto set = [&](const json& id, const std::string& text, int64_t type) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() >= out.tokens.size()) {
      throw Error(ErrorCode::kCorruptFile, "token \"" + text + "\" has the id " + id.dump() +
                                               " in a vocabulary of " + std::to_string(size));
    }
    out.tokens[id.get<size_t>()] = text;
    out.types[id.get<size_t>()] = type;
  };
  for (const auto& [text, id] : tokenizer.at("model").at("vocab").items()) {
    set(id, text, kNormal);
  }
  for (const json& added : tokenizer.value("added_tokens", json::array())) {
    set(added.at("id"), added.at("content").get<std::string>(),
        added.value("special", false) ? kControl : kUserDefined);
  }
  for (size_t i = 0; i < out.tokens.size(); ++i) {
    if (out.types[i] == kUnused) out.tokens[i] = "[PAD" + std::to_string(i) + "]";
  }
  return out;
}

std::vector<std::string> read_merges(const json& model) {
  std::vector<std::string> merges;
  for (const json& merge : model.at("merges")) {
    merges.push_back(merge.is_string()
                         ? merge.get<std::string>()
                         : merge.at(0).get<std::string>() + " " + merge.at(1).get<std::string>());
  }
  return merges;
}

void add_special(const json& config, const char* key, const char* name, const Vocab& vocab,
                 GgufWriter& writer) {
  const json value = config.value(key, json());
  const std::string text = value.is_object()   ? value.value("content", "")
                           : value.is_string() ? value.get<std::string>()
                                               : "";
  if (text.empty()) return;
  for (size_t id = 0; id < vocab.tokens.size(); ++id) {
    if (vocab.tokens[id] == text) {
      writer.add("tokenizer.ggml." + std::string(name) + "_token_id", static_cast<int64_t>(id));
      return;
    }
  }
}

void write_sampling(const json& generation, GgufWriter& writer) {
  const std::pair<const char*, const char*> keys[] = {
      {"temperature", "temp"}, {"top_p", "top_p"}, {"min_p", "min_p"}};
  for (const auto& [from, to] : keys) {
    if (generation.contains(from) && generation[from].is_number()) {
      writer.add("general.sampling." + std::string(to), generation[from].get<double>());
    }
  }
  if (generation.contains("top_k") && generation["top_k"].is_number_integer()) {
    writer.add("general.sampling.top_k", generation["top_k"].get<int64_t>());
  }
}

}  // namespace

void write_gguf_vocab(const fs::path& folder, int32_t size, GgufWriter& writer) {
  const fs::path path = folder / "tokenizer.json";
  const json tokenizer = json::parse(read_file(path), nullptr, false);
  try {
    const json& model = tokenizer.at("model");
    if (model.value("type", "") != "BPE" || model.value("byte_fallback", false)) {
      throw Error(
          ErrorCode::kUnsupported,
          path.string() + " is not a byte-level BPE tokenizer, the kind that is written so far");
    }
    Vocab vocab = read_tokens(tokenizer, size);
    const json config = read_object(folder / "tokenizer_config.json");
    writer.add("tokenizer.ggml.model", std::string("gpt2"));
    writer.add("tokenizer.ggml.pre", pre_tokenizer_name(tokenizer, path.string()));
    add_special(config, "bos_token", "bos", vocab, writer);
    add_special(config, "eos_token", "eos", vocab, writer);
    add_special(config, "pad_token", "padding", vocab, writer);
    writer.add("tokenizer.ggml.add_bos_token", config.value("add_bos_token", false));
    writer.add("tokenizer.ggml.add_eos_token", config.value("add_eos_token", false));
    writer.add("tokenizer.ggml.tokens", GgufArray(std::move(vocab.tokens)));
    writer.add("tokenizer.ggml.token_type", GgufArray(std::move(vocab.types)));
    writer.add("tokenizer.ggml.merges", GgufArray(read_merges(model)));
    std::string chat =
        fs::exists(folder / "chat_template.jinja") ? read_file(folder / "chat_template.jinja") : "";
    if (chat.empty() && config.contains("chat_template") && config["chat_template"].is_string()) {
      chat = config["chat_template"].get<std::string>();
    }
    if (!chat.empty()) writer.add("tokenizer.chat_template", chat);
    write_sampling(read_object(folder / "generation_config.json"), writer);
  } catch (const json::exception& e) {
    throw Error(ErrorCode::kCorruptFile,
                path.string() + " is not a well-formed tokenizer: " + e.what());
  }
}

}  // namespace mlxr
