// mlx key: API keys. They lie in a file that a running daemon reads again when it changes, so that
// none is needed to make the first.
#include <cstdio>
#include <ctime>
#include <memory>

#include "cli/client/daemon_client.h"
#include "cli/commands/commands.h"
#include "cli/text_table.h"
#include "daemon/config/paths.h"
#include "daemon/config/value_text.h"
#include "daemon/server/auth/key_store.h"

namespace mlxr::cli {
namespace {

Json as_json(const ApiKey& key) {
  return {{"id", key.id},
          {"name", key.name},
          {"scopes", scope_names(key.scopes)},
          {"created", key.created}};
}

std::string table(const std::vector<ApiKey>& keys) {
  std::vector<std::vector<std::string>> rows{{"ID", "NAME", "SCOPES", "CREATED"}};
  const double now = static_cast<double>(std::time(nullptr));
  for (const ApiKey& key : keys) {
    rows.push_back({key.id, key.name, join(scope_names(key.scopes), ", "),
                    human_seconds(now - static_cast<double>(key.created)) + " ago"});
  }
  return format_table(rows);
}

// The secret alone goes to standard output, for KEY=$(mlx key create).
int create(const std::string& name, bool admin, bool json) {
  const NewKey made = KeyStore(mlxr_home()).create(name, {true, admin});
  if (json) {
    Json body = as_json(made.key);
    body["key"] = made.secret;
    std::printf("%s\n", body.dump(2).c_str());
    return 0;
  }
  std::printf("%s\n", made.secret.c_str());
  std::fprintf(stderr, "This is %s. Keep it now: it cannot be shown again.\n", made.key.id.c_str());
  return 0;
}

int list(bool json) {
  const std::vector<ApiKey> keys = KeyStore(mlxr_home()).list();
  if (json) {
    Json all = Json::array();
    for (const ApiKey& key : keys) all.push_back(as_json(key));
    std::printf("%s\n", Json{{"keys", std::move(all)}}.dump(2).c_str());
  } else if (keys.empty()) {
    std::printf("There are no API keys; mlx key create makes one.\n");
  } else {
    std::fputs(table(keys).c_str(), stdout);
  }
  return 0;
}

int remove(const std::string& id_or_name) {
  const ApiKey removed = KeyStore(mlxr_home()).remove(id_or_name);
  std::printf("%s is revoked%s.\n", removed.id.c_str(),
              removed.name.empty() ? "" : (" (" + removed.name + ")").c_str());
  return 0;
}

void add_create(CLI::App& key, Invocation& invocation) {
  auto name = std::make_shared<std::string>();
  auto admin = std::make_shared<bool>(false);
  auto json = std::make_shared<bool>(false);
  CLI::App* command = key.add_subcommand("create", "Make a key and print it, once");
  command->add_option("NAME", *name, "What to call it");
  command->add_flag("--admin", *admin, "It may also unload models and end the daemon");
  command->add_flag("--json", *json, "As JSON");
  command->callback([&invocation, name, admin, json] {
    invocation.chosen = [name, admin, json] { return create(*name, *admin, *json); };
  });
}

void add_ls(CLI::App& key, Invocation& invocation) {
  auto json = std::make_shared<bool>(false);
  CLI::App* command = key.add_subcommand("ls", "The keys there are, without their secrets");
  command->add_flag("--json", *json, "As JSON");
  command->callback([&invocation, json] { invocation.chosen = [json] { return list(*json); }; });
}

void add_rm(CLI::App& key, Invocation& invocation) {
  auto which = std::make_shared<std::string>();
  CLI::App* command = key.add_subcommand("rm", "Revoke a key: its next request is refused");
  command->add_option("KEY", *which, "Its id or name")->required();
  command->callback(
      [&invocation, which] { invocation.chosen = [which] { return remove(*which); }; });
}

}  // namespace

void add_key(CLI::App& app, Invocation& invocation) {
  CLI::App* key = app.add_subcommand("key", "API keys, for clients on the network");
  key->require_subcommand(1);
  add_create(*key, invocation);
  add_ls(*key, invocation);
  add_rm(*key, invocation);
}

}  // namespace mlxr::cli
