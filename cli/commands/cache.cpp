// mlx cache: KV blocks on disk. They are looked at where they lie, with a daemon or without one.
#include <algorithm>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <memory>
#include <system_error>

#include "cli/client/daemon_process.h"
#include "cli/commands/commands.h"
#include "cli/text_table.h"
#include "core/base/error.h"
#include "daemon/scheduler/kv_folders.h"

namespace mlxr::cli {
namespace {

std::string last_use(const KvFolder& found) {
  if (found.last_use == 0) return "never";
  const auto passed = static_cast<double>(std::time(nullptr) - found.last_use);
  return human_seconds(std::max(0.0, passed)) + " ago";
}

int list(const ServerConfig& config, bool json) {
  const std::vector<KvFolder> folders = list_kv_folders(config.kv_disk_folder);
  if (json) {
    Json all = Json::array();
    for (const KvFolder& found : folders) {
      all.push_back({{"name", found.name},
                     {"blocks", found.blocks},
                     {"bytes", found.bytes},
                     {"last_use", found.last_use},
                     {"in_use", found.in_use}});
    }
    std::printf("%s\n", Json{{"models", std::move(all)}}.dump(2).c_str());
    return 0;
  }
  if (folders.empty()) {
    std::printf("There are no KV blocks in %s.\n", config.kv_disk_folder.c_str());
    return 0;
  }
  std::vector<std::vector<std::string>> rows{{"NAME", "BLOCKS", "SIZE", "LAST USE", "IN USE"}};
  for (const KvFolder& found : folders) {
    rows.push_back({found.name, std::to_string(found.blocks), human_bytes(found.bytes),
                    last_use(found), found.in_use ? "yes" : ""});
  }
  std::fputs(format_table(rows, {1, 2}).c_str(), stdout);
  return 0;
}

// All that can be, even if one cannot.
int remove(const ServerConfig& config, const std::string& name, bool all) {
  if (name.empty() != all) {
    throw Error(ErrorCode::kInvalidArgument,
                "name one model, or give --all; mlx cache ls lists what there is");
  }
  std::vector<std::string> names{name};
  if (all) {
    names.clear();
    for (const KvFolder& found : list_kv_folders(config.kv_disk_folder)) {
      names.push_back(found.name);
    }
  }
  int status = 0;
  for (const std::string& each : names) {
    try {
      remove_kv_folder(config.kv_disk_folder, each);
      std::printf("The KV blocks of %s are removed.\n", each.c_str());
    } catch (const Error& error) {
      if (!all) throw;
      std::fprintf(stderr, "mlx: %s\n", error.what());
      status = 1;
    }
  }
  if (names.empty()) std::printf("There are no KV blocks.\n");
  return status;
}

// What a running daemon has counted since it loaded each model.
Json counted(const std::optional<std::filesystem::path>& socket) {
  const auto client = find_daemon({.socket = socket});
  return client ? client->get("/mlxr/v1/ps").at("models") : Json::array();
}

void print_counts(const Json& models) {
  if (models.empty()) return;
  std::vector<std::vector<std::string>> rows{{"LOADED", "WRITTEN", "RESTORED", "DROPPED"}};
  for (const Json& model : models) {
    rows.push_back({model.value("name", "")});
    for (const char* key : {"kv_blocks_persisted", "kv_blocks_restored", "kv_blocks_dropped"}) {
      rows.back().push_back(std::to_string(model.value(key, uint64_t{0})));
    }
  }
  std::printf("\n%s", format_table(rows, {1, 2, 3}).c_str());
}

int stats(const ServerConfig& config, const std::optional<std::filesystem::path>& socket,
          bool json) {
  const std::vector<KvFolder> folders = list_kv_folders(config.kv_disk_folder);
  int64_t blocks = 0, bytes = 0;
  for (const KvFolder& found : folders) {
    blocks += found.blocks;
    bytes += found.bytes;
  }
  std::error_code missing;
  const auto disk = std::filesystem::space(config.kv_disk_folder, missing);
  const int64_t free = missing ? 0 : static_cast<int64_t>(disk.available);
  const Json loaded = counted(socket);
  if (json) {
    std::printf("%s\n", Json{{"folder", config.kv_disk_folder.string()},
                             {"enabled", config.kv_disk},
                             {"models", folders.size()},
                             {"blocks", blocks},
                             {"bytes", bytes},
                             {"most_bytes_each", config.kv_disk_bytes},
                             {"free_bytes", free},
                             {"loaded", loaded}}
                            .dump(2)
                            .c_str());
    return 0;
  }
  std::vector<std::vector<std::string>> rows{
      {"FOLDER", config.kv_disk_folder.string() + (config.kv_disk ? "" : " (kv_disk is off)")},
      {"MODELS", std::to_string(folders.size())},
      {"BLOCKS", std::to_string(blocks)},
      {"SIZE", human_bytes(bytes) + ", at most " + human_bytes(config.kv_disk_bytes) + " a model"},
      {"FREE", human_bytes(free) + " on this disk"}};
  std::fputs(format_table(rows).c_str(), stdout);
  print_counts(loaded);
  return 0;
}

void add_ls(CLI::App& cache, Invocation& invocation) {
  auto json = std::make_shared<bool>(false);
  CLI::App* command = cache.add_subcommand("ls", "Models with KV blocks on disk");
  command->add_flag("--json", *json, "As JSON");
  command->callback([&invocation, json] {
    invocation.chosen = [&invocation, json] {
      return list(daemon_settings(invocation.daemon.socket), *json);
    };
  });
}

void add_rm(CLI::App& cache, Invocation& invocation) {
  auto name = std::make_shared<std::string>();
  auto all = std::make_shared<bool>(false);
  CLI::App* command = cache.add_subcommand("rm", "Remove the KV blocks of a model");
  command->add_option("NAME", *name, "The model");
  command->add_flag("--all", *all, "Of all models");
  command->callback([&invocation, name, all] {
    invocation.chosen = [&invocation, name, all] {
      return remove(daemon_settings(invocation.daemon.socket), *name, *all);
    };
  });
}

void add_stats(CLI::App& cache, Invocation& invocation) {
  auto json = std::make_shared<bool>(false);
  CLI::App* command =
      cache.add_subcommand("stats", "What is there, and what a daemon does with it");
  command->add_flag("--json", *json, "As JSON");
  command->callback([&invocation, json] {
    invocation.chosen = [&invocation, json] {
      return stats(daemon_settings(invocation.daemon.socket), invocation.daemon.socket, *json);
    };
  });
}

}  // namespace

void add_cache(CLI::App& app, Invocation& invocation) {
  CLI::App* cache =
      app.add_subcommand("cache", "KV blocks on disk: prompts that need not be computed again");
  cache->require_subcommand(1);
  add_ls(*cache, invocation);
  add_rm(*cache, invocation);
  add_stats(*cache, invocation);
}

}  // namespace mlxr::cli
