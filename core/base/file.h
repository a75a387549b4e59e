// Small whole-file operations that never leave a half-written file behind.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace mlxr {

// Reads a whole file. Throws Error{kNotFound} or Error{kIo} naming the path.
std::string read_file(const std::filesystem::path& path);

// Writes through a temporary file in the same folder, fsync and rename: readers see the old content
// or the new, never a part. `mode`: the new file's permissions. Throws Error{kIo} naming the path.
void write_file_atomic(const std::filesystem::path& path, std::string_view content,
                       unsigned mode = 0644);

}  // namespace mlxr
