#include "daemon/server/native/model_json.h"

#include <algorithm>

namespace mlxr::native {
namespace {

void add_facts(Json& json, Services& services, const std::string& name, const ModelFacts& facts) {
  json["format"] = to_string(facts.format);
  json["architecture"] = facts.architecture;
  json["quantization"] = facts.quantization;
  json["parameters"] = facts.parameters;
  json["size_bytes"] = facts.weight_bytes;
  json["context_length"] = services.models.context_length(name, facts);
}

Json entry_head(const ModelEntry& entry) {
  return {{"name", entry.name}, {"path", entry.path.string()}};
}

Json to_json(const SamplingParams& sampling) {
  return {{"temperature", short_number(sampling.temperature)},
          {"top_k", sampling.top_k},
          {"top_p", short_number(sampling.top_p)},
          {"min_p", short_number(sampling.min_p)},
          {"typical_p", short_number(sampling.typical_p)},
          {"repeat_penalty", short_number(sampling.repeat_penalty)},
          {"presence_penalty", short_number(sampling.presence_penalty)},
          {"frequency_penalty", short_number(sampling.frequency_penalty)}};
}

std::shared_ptr<const Model> open_model(const ModelEntry& entry) {
  try {
    return load_model(entry.path);
  } catch (const Error& error) {
    throw about_model(error, entry);
  }
}

Json stop_tokens(const Model& model) {
  Json tokens = Json::array();
  for (const int32_t id : model.stop_tokens) {
    tokens.push_back(
        {{"id", id}, {"text", model.tokenizer ? model.tokenizer->token_bytes(id) : ""}});
  }
  return tokens;
}

void add_loaded(Json& json, const Services& services, const std::string& name) {
  const std::vector<LoadedModelInfo> loaded = services.models.loaded();
  const auto found = std::ranges::find_if(
      loaded, [&](const LoadedModelInfo& info) { return info.name == name && !info.leaving; });
  json["loaded"] = found != loaded.end();
  if (found != loaded.end()) {
    json["memory_bytes"] = found->memory.total();
  }
}

Json memory_json(const MemoryEstimate& memory) {
  return {{"total_bytes", memory.total()}, {"weight_bytes", memory.weights},
          {"kv_bytes", memory.kv},         {"activation_bytes", memory.activations},
          {"other_bytes", memory.other},   {"adapter_bytes", memory.adapters},
          {"mapped_bytes", memory.mapped}};
}

}  // namespace

Json model_summary(Services& services, const ModelEntry& entry) {
  Json json = entry_head(entry);
  try {
    add_facts(json, services, entry.name, read_model_facts(entry.path));
  } catch (const Error& error) {
    json["error"] = error.what();
  }
  json["is_default"] = entry.is_default;
  add_loaded(json, services, entry.name);
  return json;
}

Json model_details(Services& services, const std::string& name) {
  const ModelEntry entry = services.models.find(name);
  const ModelSettings settings = services.settings.find(entry.name);
  const std::shared_ptr<const Model> model = open_model(entry);
  Json json = entry_head(entry);
  add_facts(json, services, entry.name, model->facts);
  json["is_default"] = entry.is_default;
  add_loaded(json, services, entry.name);
  json["vocab_size"] = model->facts.vocab_size;
  json["hidden_size"] = model->facts.hidden_size;
  json["layers"] = model->facts.layers;
  if (settings.chat_template) {
    json["chat_template"] = *settings.chat_template;
  } else {
    json["chat_template"] = model->chat_template ? Json(model->chat_template->source()) : Json();
  }
  json["default_sampling"] = to_json(with_overrides(model->default_sampling, settings));
  json["stop_tokens"] = stop_tokens(*model);
  return json;
}

Json memory_state(const MemoryStats& memory) {
  Json unloads = Json::object();
  for (const UnloadReason reason : kUnloadReasons) {
    unloads[to_string(reason)] = memory.unloads[static_cast<size_t>(reason)];
  }
  return {{"limit_bytes", memory.limit},
          {"reserved_bytes", memory.reserved},
          {"models_loading", memory.loading},
          {"requests_waiting", memory.waiting},
          {"loads", memory.loads},
          {"failed_loads", memory.failed_loads},
          {"refused_loads", memory.refused_loads},
          {"unloads", std::move(unloads)}};
}

Json adapter_json(const AdapterInfo& adapter) {
  Json json{{"id", adapter.id},
            {"name", adapter.settings.name},
            {"path", adapter.settings.path.string()},
            {"scale", short_number(adapter.settings.scale)},
            {"loaded", adapter.loaded != nullptr}};
  if (adapter.loaded) {
    json["rank"] = adapter.loaded->rank;
    json["targets"] = adapter.loaded->targets;
    json["size_bytes"] = adapter.loaded->bytes;
  }
  return json;
}

Json adapter_list(const std::vector<AdapterInfo>& adapters) {
  Json all = Json::array();
  for (const AdapterInfo& adapter : adapters) {
    all.push_back(adapter_json(adapter));
  }
  return all;
}

Json loaded_model(const LoadedModelInfo& model) {
  return {{"name", model.name},
          {"leaving", model.leaving},
          {"context_length", model.context_length},
          {"kv_bytes", model.kv_bytes},
          {"running", model.stats.running},
          {"waiting", model.stats.waiting},
          {"kv_blocks_used", model.stats.kv_blocks_used},
          {"kv_blocks_total", model.stats.kv_blocks_total},
          {"kv_disk_bytes", model.stats.kv_disk_bytes},
          {"kv_blocks_persisted", model.stats.kv_blocks_persisted},
          {"kv_blocks_restored", model.stats.kv_blocks_restored},
          {"kv_blocks_dropped", model.stats.kv_blocks_dropped},
          {"proposed_tokens", model.stats.proposed_tokens},
          {"accepted_tokens", model.stats.accepted_tokens},
          {"loaded_at", model.loaded_at},
          {"load_seconds", model.load_seconds},
          {"repacked_bytes", model.repacked_bytes},
          {"repack_seconds", model.repack_seconds},
          {"pinned", model.pinned},
          {"memory", memory_json(model.memory)},
          {"quantization", model.facts.quantization},
          {"size_bytes", model.facts.weight_bytes},
          {"adapter_bytes", model.adapter_bytes},
          {"adapters", adapter_list(model.adapters)}};
}

}  // namespace mlxr::native
