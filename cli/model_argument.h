// MODEL on the command line: a registry name, or a path to a .gguf file or a model folder.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "cli/client/daemon_client.h"

namespace mlxr::cli {

// True for what is plainly a path: it has a slash, ends in .gguf, or is a model's folder.
bool is_model_path_argument(const std::string& model);
// The name that a model is served under.
std::string model_argument_name(const std::string& model);

// The file or folder, found without the daemon. Throws Error{kNotFound}.
std::filesystem::path model_path(const std::string& model,
                                 const std::optional<std::filesystem::path>& socket);
// Has the daemon load the model; returns its name there. Shows a line while it takes long.
std::string load_in_daemon(const DaemonClient& client, const std::string& model);

}  // namespace mlxr::cli
