// How much memory this process may use.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace mlxr {

// The machine's memory, or less where a control group (a container, a service's MemoryMax) allows
// less.
int64_t usable_memory();

// Gives memory that was freed back to the system, where malloc keeps it: a tokenizer's tables are
// many small pieces (144 MB of one with 152,000 tokens stayed when its model had been unloaded).
void return_freed_memory();

// The lowest limit of the control groups that `membership` (the text of /proc/self/cgroup) names,
// their parents included, below `root` (/sys/fs/cgroup); versions 1 and 2. Nothing: there is none.
std::optional<int64_t> cgroup_memory_limit(const std::string& membership,
                                           const std::filesystem::path& root);

}  // namespace mlxr
