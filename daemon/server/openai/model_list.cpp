#include "daemon/server/openai/model_list.h"

#include <spdlog/spdlog.h>

#include <chrono>
#include <filesystem>

namespace mlxr::openai {
namespace {

int64_t modified_at(const std::filesystem::path& path) {
  std::error_code problem;
  const auto time = std::filesystem::last_write_time(path, problem);
  if (problem) {
    return 0;
  }
  const auto system = std::chrono::file_clock::to_sys(time);
  return std::chrono::duration_cast<std::chrono::seconds>(system.time_since_epoch()).count();
}

Json to_object(Services& services, const ModelEntry& entry) {
  return {
      {"id", entry.name},
      {"object", "model"},
      {"created", modified_at(entry.path)},
      {"owned_by", "mlxr"},
      {"context_length", services.models.context_length(entry.name, read_model_facts(entry.path))}};
}

}  // namespace

Json model_list(Services& services) {
  Json data = Json::array();
  for (const ModelEntry& entry : services.models.list()) {
    try {
      data.push_back(to_object(services, entry));
    } catch (const Error& error) {
      spdlog::debug("left out of /v1/models: {}", error.what());
    }
  }
  return {{"object", "list"}, {"data", std::move(data)}};
}

Json model_object(Services& services, const std::string& name) {
  return to_object(services, services.models.find(name));
}

}  // namespace mlxr::openai
