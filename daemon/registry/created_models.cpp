#include "daemon/registry/created_models.h"

#include <spdlog/spdlog.h>

#include <algorithm>

#include "core/base/error.h"
#include "core/base/file.h"

namespace mlxr {
namespace fs = std::filesystem;
namespace {

using Json = nlohmann::ordered_json;
constexpr size_t kLongestName = 200;

Json to_json(const CreatedModel& model) {
  Json adapters = Json::array();
  for (const CreatedAdapter& adapter : model.adapters) {
    Json one = Json::object();
    one["name"] = adapter.name;
    one["path"] = adapter.path.string();
    adapters.push_back(std::move(one));
  }
  return {{"name", model.name},         {"from", model.from.string()},
          {"parent", model.parent},     {"template", model.chat_template},
          {"system", model.system},     {"license", model.license},
          {"messages", model.messages}, {"parameters", model.parameters},
          {"adapters", adapters}};
}

CreatedModel from_json(const Json& json) {
  CreatedModel model;
  model.name = json.at("name").get<std::string>();
  model.from = json.at("from").get<std::string>();
  model.parent = json.value("parent", "");
  model.chat_template = json.value("template", "");
  model.system = json.value("system", "");
  model.license = json.value("license", "");
  model.messages = json.value("messages", Json::array());
  model.parameters = json.value("parameters", Json::object());
  for (const Json& one : json.value("adapters", Json::array())) {
    model.adapters.push_back(
        {one.at("name").get<std::string>(), one.at("path").get<std::string>()});
  }
  return model;
}

std::optional<CreatedModel> read(const fs::path& file) {
  try {
    return from_json(Json::parse(read_file(file)));
  } catch (const std::exception& error) {
    spdlog::warn("left out the created model {}: {}", file.string(), error.what());
    return std::nullopt;
  }
}

bool is_name_part(const std::string& part) {
  const auto allowed = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '.' || c == '_' || c == '-';
  };
  return !part.empty() && part.front() != '.' && std::all_of(part.begin(), part.end(), allowed);
}

}  // namespace

void check_model_name(const std::string& name) {
  const size_t colon = name.find(':');
  bool good = name.size() <= kLongestName &&
              (colon == std::string::npos || is_name_part(name.substr(colon + 1)));
  std::string rest = name.substr(0, colon);
  for (size_t slash = rest.find('/'); slash != std::string::npos; slash = rest.find('/')) {
    good = good && is_name_part(rest.substr(0, slash));
    rest.erase(0, slash + 1);
  }
  if (!good || !is_name_part(rest)) {
    throw Error(ErrorCode::kInvalidArgument,
                "\"" + name.substr(0, kLongestName) +
                    "\" is no name for a model: use letters, digits, '.', '_' and '-', parts "
                    "between '/', and a tag after ':'");
  }
}

// A name's slashes and colon are written so that one file is one name, and no other path.
fs::path CreatedModels::file_of(const std::string& name) const {
  std::string file;
  for (const char c : name) {
    file += c == '/' ? "%2F" : c == ':' ? "%3A" : std::string(1, c);
  }
  return folder_ / (file + ".json");
}

std::vector<CreatedModel> CreatedModels::list() const {
  std::vector<fs::path> files;
  std::error_code problem;
  for (const auto& entry : fs::directory_iterator(folder_, problem)) {
    if (entry.path().extension() == ".json") {
      files.push_back(entry.path());
    }
  }
  std::sort(files.begin(), files.end());
  std::vector<CreatedModel> models;
  for (const fs::path& file : files) {
    if (auto model = read(file)) {
      models.push_back(std::move(*model));
    }
  }
  return models;
}

std::optional<CreatedModel> CreatedModels::find(const std::string& name) const {
  try {
    check_model_name(name);
  } catch (const Error&) {
    return std::nullopt;
  }
  const fs::path file = file_of(name);
  return fs::exists(file) ? read(file) : std::nullopt;
}

std::optional<fs::file_time_type> CreatedModels::made(const std::string& name) const {
  std::error_code problem;
  const fs::file_time_type time = fs::last_write_time(file_of(name), problem);
  return problem ? std::nullopt : std::optional(time);
}

void CreatedModels::put(const CreatedModel& model) const {
  check_model_name(model.name);
  std::error_code problem;
  fs::create_directories(folder_, problem);
  write_file_atomic(file_of(model.name), to_json(model).dump(1) + "\n");
}

bool CreatedModels::erase(const std::string& name) const {
  check_model_name(name);
  std::error_code problem;
  return fs::remove(file_of(name), problem);
}

}  // namespace mlxr
