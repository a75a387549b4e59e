#include "cli/client/interrupt.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <string>

#include "core/base/error.h"

namespace mlxr::cli {
namespace {

std::atomic<int> signal_fd{-1};  // a signal handler reaches nothing else

void on_signal(int) {
  const int before = errno;
  const char byte = 1;
  [[maybe_unused]] const ssize_t written = ::write(signal_fd.load(), &byte, 1);
  errno = before;
}

void keep_to_this_process(int fd) {
  ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  ::fcntl(fd, F_SETFL, O_NONBLOCK);
}

}  // namespace

Interrupt::Interrupt() {
  int ends[2];
  if (::pipe(ends) != 0) {
    throw Error(ErrorCode::kIo, std::string("cannot make a pipe: ") + std::strerror(errno));
  }
  read_fd_ = ends[0];
  write_fd_ = ends[1];
  keep_to_this_process(read_fd_);
  keep_to_this_process(write_fd_);
  signal_fd = write_fd_;
  struct sigaction action {};
  action.sa_handler = on_signal;
  ::sigaction(SIGINT, &action, &before_);
}

Interrupt::~Interrupt() {
  ::sigaction(SIGINT, &before_, nullptr);
  signal_fd = -1;
  ::close(read_fd_);
  ::close(write_fd_);
}

bool Interrupt::raised() const {
  pollfd entry{.fd = read_fd_, .events = POLLIN, .revents = 0};
  return ::poll(&entry, 1, 0) == 1;
}

}  // namespace mlxr::cli
