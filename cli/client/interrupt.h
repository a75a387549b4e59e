// Ctrl-C as something to wait for. While one is alive, SIGINT does not end the program.
#pragma once

#include <csignal>

namespace mlxr::cli {

class Interrupt {
 public:
  Interrupt();
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  int fd() const { return read_fd_; }  // readable once SIGINT has come
  bool raised() const;

 private:
  int read_fd_ = -1, write_fd_ = -1;
  struct sigaction before_ {};
};

}  // namespace mlxr::cli
