#include "cli/client/progress_line.h"

#include <unistd.h>

#include <cstdio>

namespace mlxr::cli {

ProgressLine::ProgressLine(const std::string& text) : terminal_(::isatty(STDERR_FILENO) != 0) {
  std::fprintf(stderr, terminal_ ? "%s ..." : "%s ...\n", text.c_str());
  std::fflush(stderr);
}

ProgressLine::~ProgressLine() {
  if (!terminal_) return;
  std::fputs("\r\033[K", stderr);
  std::fflush(stderr);
}

}  // namespace mlxr::cli
