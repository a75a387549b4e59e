#include "cli/chat/interactive.h"

#include <csignal>
#include <cstdio>

#include "cli/chat/answer.h"
#include "cli/chat/line_editor.h"
#include "core/base/error.h"
#include "daemon/config/paths.h"

namespace mlxr::cli {
namespace {

constexpr char kHelp[] =
    "/help                 this list\n"
    "/clear                a new conversation\n"
    "/system TEXT          a system message (without TEXT: none)\n"
    "/set NAME VALUE       temperature, top_p, top_k, min_p, seed, max_tokens or stop\n"
    "/show                 the model and what is set\n"
    "/save FILE            write the conversation\n"
    "/load FILE            read one back\n"
    "/regen                answer the last message again\n"
    "/bye                  leave (also Ctrl-D)\n"
    "\"\"\"                   begins and ends a message of several lines; so does \\ at a line's "
    "end\n"
    "Ctrl-C                stops the answer\n";

class Session {
 public:
  Session(const DaemonClient& client, Conversation conversation, bool verbose)
      : client_(client),
        conversation_(std::move(conversation)),
        verbose_(verbose),
        editor_(mlxr_home() / "history") {}

  int run() {
    std::printf("%s: /help for help, /bye to leave\n", conversation_.model().c_str());
    std::string text;
    while (read_message(text)) {
      if (text.empty()) continue;
      editor_.remember(text);
      try {
        if (text[0] == '/' && text.find('\n') == std::string::npos) {
          if (!command(text)) break;
        } else {
          ask(text);
        }
      } catch (const std::exception& e) {
        std::fprintf(stderr, "mlx: %s\n", e.what());
      }
    }
    return 0;
  }

 private:
  // One message, over several lines where the user asks for it. False: leave.
  bool read_message(std::string& text) {
    text.clear();
    bool quoted = false;
    for (std::string line;;) {
      const auto result = editor_.read(text.empty() && !quoted ? ">>> " : "... ", line);
      if (result == LineEditor::Result::kEnd) {
        std::printf("\n");
        return false;
      }
      if (result == LineEditor::Result::kCancelled) {
        text.clear();
        return true;
      }
      if (!quoted && text.empty() && line.starts_with("\"\"\"")) {
        quoted = true;
        line.erase(0, 3);
      }
      if (quoted) {
        const bool ends = line.ends_with("\"\"\"");
        if (ends) line.resize(line.size() - 3);
        text += line;
        if (ends) return true;
        if (!text.empty()) text += '\n';
      } else if (line.ends_with('\\')) {
        text += line.substr(0, line.size() - 1) + "\n";
      } else {
        text += line;
        return true;
      }
    }
  }

  void ask(const std::string& text) {
    conversation_.add("user", text);
    try {
      answer();
    } catch (...) {
      // A refused question (too long, say) must not make every later one fail with it.
      conversation_.drop_question();
      throw;
    }
  }

  void answer() {
    Answer answer;
    try {
      answer = stream_answer(client_, conversation_.path(), conversation_.request(), print_text);
    } catch (...) {
      std::printf("\n");
      throw;
    }
    std::printf(answer.interrupted ? " ^C\n" : "\n");
    const bool limited = conversation_.options().contains("max_tokens");
    const std::string cut = describe_cut(answer, limited);
    const char* advice = limited ? "" : "; /clear begins a new conversation";
    if (!cut.empty()) std::printf("[%s%s]\n", cut.c_str(), advice);
    if (verbose_ && !answer.interrupted) std::printf("[%s]\n", describe_speed(answer).c_str());
    // What was said before it was stopped is part of the conversation.
    conversation_.add("assistant", answer.text);
  }

  // False: leave.
  bool command(const std::string& text) {
    const size_t space = text.find(' ');
    const std::string name = text.substr(0, space);
    const std::string rest = space == std::string::npos ? "" : text.substr(space + 1);
    if (name == "/bye" || name == "/exit" || name == "/quit") return false;
    if (name == "/help" || name == "/?") {
      std::fputs(kHelp, stdout);
    } else if (name == "/clear") {
      conversation_.clear();
      std::printf("A new conversation.\n");
    } else if (name == "/system") {
      conversation_.set_system(rest);
      std::printf(rest.empty() ? "No system message.\n" : "System message set.\n");
    } else if (name == "/set") {
      set(rest);
    } else if (name == "/show") {
      show();
    } else if (name == "/save") {
      conversation_.save(file_name(rest));
      std::printf("Saved to %s.\n", rest.c_str());
    } else if (name == "/load") {
      conversation_.load(file_name(rest));
      std::printf("Loaded %s.\n", rest.c_str());
    } else if (name == "/regen") {
      if (!conversation_.drop_answer()) {
        throw Error(ErrorCode::kInvalidArgument, "there is no answer to give again");
      }
      answer();
    } else {
      throw Error(ErrorCode::kInvalidArgument, "there is no command " + name + "; try /help");
    }
    return true;
  }

  void set(const std::string& rest) {
    const size_t space = rest.find(' ');
    if (space == std::string::npos) {
      throw Error(ErrorCode::kInvalidArgument, "/set takes a name and a value");
    }
    conversation_.set_option(rest.substr(0, space), rest.substr(space + 1));
  }

  void show() const {
    std::printf("model: %s\nsystem: %s\noptions: %s\n", conversation_.model().c_str(),
                conversation_.system().empty() ? "(none)" : conversation_.system().c_str(),
                conversation_.options().dump().c_str());
  }

  static std::string file_name(const std::string& rest) {
    if (rest.empty()) throw Error(ErrorCode::kInvalidArgument, "name a file");
    return rest;
  }

  const DaemonClient& client_;
  Conversation conversation_;
  bool verbose_;
  LineEditor editor_;
};

}  // namespace

int chat_interactively(const DaemonClient& client, Conversation conversation, bool verbose) {
  create_private_folder(mlxr_home());
  // Ctrl-C is heard by the editor and by the answer; pressed between the two it must do nothing.
  std::signal(SIGINT, SIG_IGN);
  return Session(client, std::move(conversation), verbose).run();
}

}  // namespace mlxr::cli
