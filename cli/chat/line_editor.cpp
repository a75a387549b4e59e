#include "cli/chat/line_editor.h"

#include <histedit.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>

namespace mlxr::cli {

namespace {
constexpr int kHistoryLines = 1000;
}

struct LineEditor::Impl {
  std::filesystem::path history_file;
  std::string prompt;
  bool cancelled = false;
  EditLine* edit = nullptr;
  History* history = nullptr;
  HistEvent event{};

  static Impl& of(EditLine* edit) {
    void* self = nullptr;
    el_get(edit, EL_CLIENTDATA, &self);
    return *static_cast<Impl*>(self);
  }
  static char* show_prompt(EditLine* edit) { return of(edit).prompt.data(); }
  static unsigned char cancel(EditLine* edit, int) {
    of(edit).cancelled = true;
    std::fputs("^C\n", stdout);
    return CC_NEWLINE;
  }
};

LineEditor::LineEditor(std::filesystem::path history_file) : impl_(std::make_unique<Impl>()) {
  Impl& self = *impl_;
  self.history_file = std::move(history_file);
  self.history = history_init();
  history(self.history, &self.event, H_SETSIZE, kHistoryLines);
  history(self.history, &self.event, H_SETUNIQUE, 1);
  history(self.history, &self.event, H_LOAD, self.history_file.c_str());
  self.edit = el_init("mlx", stdin, stdout, stderr);
  el_set(self.edit, EL_CLIENTDATA, impl_.get());
  el_set(self.edit, EL_PROMPT, Impl::show_prompt);
  el_set(self.edit, EL_EDITOR, "emacs");
  el_set(self.edit, EL_HIST, ::history, self.history);
  // Ctrl-C comes as a character while a line is edited, and clears the line.
  el_set(self.edit, EL_ADDFN, "mlx-cancel", "Throw the line away", Impl::cancel);
  el_set(self.edit, EL_BIND, "^C", "mlx-cancel", nullptr);
  el_set(self.edit, EL_SETTY, "-d", "-isig", nullptr);
  el_source(self.edit, nullptr);  // the user's ~/.editrc
}

LineEditor::~LineEditor() {
  el_end(impl_->edit);
  history_end(impl_->history);
}

LineEditor::Result LineEditor::read(const std::string& prompt, std::string& line) {
  Impl& self = *impl_;
  self.prompt = prompt;
  self.cancelled = false;
  int count = 0;
  const char* text = el_gets(self.edit, &count);
  if (self.cancelled) return Result::kCancelled;
  if (text == nullptr || count <= 0) return Result::kEnd;
  line.assign(text, static_cast<size_t>(count));
  while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) line.pop_back();
  return Result::kLine;
}

void LineEditor::remember(const std::string& text) {
  Impl& self = *impl_;
  history(self.history, &self.event, H_ENTER, (text + "\n").c_str());
  const mode_t before = ::umask(0077);
  history(self.history, &self.event, H_SAVE, self.history_file.c_str());
  ::umask(before);
}

}  // namespace mlxr::cli
