// Where the project's files are that tests read.
#pragma once

#include <filesystem>

namespace mlxr::testing {

// The root of the repository. In a file of its own, so that no other object holds its path, and a
// compiler cache serves every clone.
std::filesystem::path source_dir();

}  // namespace mlxr::testing
