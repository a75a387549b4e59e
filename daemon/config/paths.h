// Where a user's machine keeps what MLXR keeps, and where the program's own files lie.
#pragma once

#include <filesystem>
#include <string>

namespace mlxr {

// $MLXR_HOME, else ~/.mlxr. Absolute. Throws Error{kInvalidArgument} when neither is known.
std::filesystem::path mlxr_home();

// Makes the folder (mode 0700) when it is missing. Throws Error{kIo} naming it.
void create_private_folder(const std::filesystem::path& folder);

// Replaces a leading "$MLXR_HOME" or "~" and makes the result absolute.
std::filesystem::path expand_path(const std::string& text, const std::filesystem::path& home);

// Where the running program itself can be read, also when its file has been replaced since.
std::filesystem::path program_file();

// The running program's folder, symbolic links resolved.
std::filesystem::path program_folder();

// The demo model that the build makes; it need not exist.
std::filesystem::path built_in_model();

}  // namespace mlxr
