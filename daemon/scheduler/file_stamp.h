// Whether a model's files are those that were loaded.
#pragma once

#include <filesystem>
#include <string>

namespace mlxr {

// Inode, size and time of the last change of a file, or of each file in a folder; empty where there
// is none. Two stamps that differ: something was written, or put in its place.
std::string file_stamp(const std::filesystem::path& path);

}  // namespace mlxr
