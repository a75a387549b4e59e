#include "daemon/config/paths.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <vector>

#ifdef __APPLE__
#include <mach-o/dyld.h>
#endif

#include "core/base/error.h"

namespace mlxr {
namespace fs = std::filesystem;
namespace {

fs::path user_home() {
  const char* home = std::getenv("HOME");
  if (home == nullptr || *home == '\0') {
    throw Error(ErrorCode::kInvalidArgument,
                "neither MLXR_HOME nor HOME is set; set MLXR_HOME to a folder for MLXR's files");
  }
  return home;
}

}  // namespace

fs::path mlxr_home() {
  const char* chosen = std::getenv("MLXR_HOME");
  if (chosen != nullptr && *chosen != '\0') {
    return fs::absolute(chosen);
  }
  return fs::absolute(user_home() / ".mlxr");
}

void create_private_folder(const fs::path& folder) {
  std::error_code problem;
  if (fs::is_directory(folder, problem)) {
    return;
  }
  if (folder.has_parent_path()) {
    fs::create_directories(folder.parent_path(), problem);
  }
  if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) {
    throw Error(ErrorCode::kIo, "cannot make the folder " + folder.string() + ": " +
                                    std::strerror(errno) + "; choose another with MLXR_HOME");
  }
}

fs::path expand_path(const std::string& text, const fs::path& home) {
  const std::string variable = "$MLXR_HOME";
  if (text == variable) {
    return home;
  }
  if (text.starts_with(variable + "/")) {
    return home / text.substr(variable.size() + 1);
  }
  if (text == "~") {
    return user_home();
  }
  if (text.starts_with("~/")) {
    return user_home() / text.substr(2);
  }
  return fs::absolute(text);
}

fs::path program_file() {
#ifdef __APPLE__
  uint32_t size = 4096;
  std::vector<char> path(size);
  if (_NSGetExecutablePath(path.data(), &size) != 0) {
    return fs::current_path() / "mlxrunnerd";
  }
  return fs::canonical(path.data());
#else
  return "/proc/self/exe";
#endif
}

fs::path program_folder() {
#ifdef __APPLE__
  return program_file().parent_path();
#else
  return fs::read_symlink(program_file()).parent_path();
#endif
}

fs::path built_in_model() {
  return program_folder().parent_path() / "share" / "mlxr" / "models" / "mlxr-demo.gguf";
}

}  // namespace mlxr
