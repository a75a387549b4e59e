// mlx run: one answer, or an interactive chat.
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <iterator>
#include <memory>
#include <vector>

#include "cli/chat/answer.h"
#include "cli/chat/conversation.h"
#include "cli/chat/interactive.h"
#include "cli/client/daemon_process.h"
#include "cli/client/progress_line.h"
#include "cli/commands/commands.h"
#include "cli/model_argument.h"
#include "core/base/error.h"

namespace mlxr::cli {
namespace {

struct Options {
  std::string model;
  std::vector<std::string> prompt;
  std::string system;
  std::map<std::string, std::string> sampling;  // option name -> value as typed
  std::vector<std::string> stop;
  std::vector<std::string> adapters;  // paths
  bool raw = false, verbose = false;
};

// With a prompt on the command line only a pipe or a file is read: a program that starts this one
// may have left a socket or a device there, which never ends.
bool reads_input(bool has_prompt) {
  struct stat input {};
  if (::isatty(STDIN_FILENO) || ::fstat(STDIN_FILENO, &input) != 0) return false;
  return !has_prompt || S_ISFIFO(input.st_mode) || S_ISREG(input.st_mode);
}

std::string piped_input(bool has_prompt) {
  if (!reads_input(has_prompt)) return "";
  constexpr int kQuietMilliseconds = 2000;
  std::optional<ProgressLine> waiting;
  pollfd input{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
  if (::poll(&input, 1, kQuietMilliseconds) == 0) {
    waiting.emplace("mlx: waiting for the rest of the prompt on standard input");
  }
  std::string text{std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>()};
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
  return text;
}

// The words of the command line, and below them what was piped in.
std::string prompt_of(const Options& options) {
  std::string prompt;
  for (const std::string& word : options.prompt) prompt += (prompt.empty() ? "" : " ") + word;
  const std::string piped = piped_input(!prompt.empty());
  if (!prompt.empty() && !piped.empty()) prompt += "\n\n";
  return prompt + piped;
}

int answer_once(const DaemonClient& client, Conversation conversation, const std::string& prompt,
                bool verbose) {
  conversation.add("user", prompt);
  const Answer answer =
      stream_answer(client, conversation.path(), conversation.request(), print_text);
  std::printf("\n");
  std::fflush(stdout);
  const bool limited = conversation.options().contains("max_tokens");
  const std::string cut = limited ? "" : describe_cut(answer, limited);
  if (!cut.empty()) std::fprintf(stderr, "[%s]\n", cut.c_str());
  if (verbose) std::fprintf(stderr, "[%s]\n", describe_speed(answer).c_str());
  return answer.interrupted ? 130 : 0;
}

// Has the daemon read the adapter for the model; returns its name there.
std::string add_adapter(const DaemonClient& client, const std::string& model,
                        const std::string& path) {
  Json body = Json::object();
  body["model"] = model;
  body["path"] = std::filesystem::absolute(path).lexically_normal().string();
  return client.post("/mlxr/v1/adapters", body, "reading " + path).value("name", path);
}

int run(const Invocation& invocation, const Options& options) {
  const bool interactive = options.prompt.empty() && ::isatty(STDIN_FILENO);
  const std::string prompt = interactive ? "" : prompt_of(options);
  if (!interactive && prompt.empty()) {
    throw Error(ErrorCode::kInvalidArgument,
                "the prompt is empty; give one after the model's name or on standard input");
  }
  const DaemonClient client = find_or_start_daemon(invocation.daemon);
  const std::string name = load_in_daemon(client, options.model);
  const Json details = client.get("/mlxr/v1/models/" + escape_segment(name));
  const bool chat =
      !options.raw && details.contains("chat_template") && details["chat_template"].is_string();
  Conversation conversation(name, chat);
  conversation.set_system(options.system);
  for (const auto& [option, value] : options.sampling) conversation.set_option(option, value);
  for (const std::string& path : options.adapters) {
    conversation.add_adapter(add_adapter(client, name, path));
  }
  for (const std::string& stop : options.stop) conversation.set_option("stop", stop);
  return interactive ? chat_interactively(client, std::move(conversation), options.verbose)
                     : answer_once(client, std::move(conversation), prompt, options.verbose);
}

}  // namespace

void add_run(CLI::App& app, Invocation& invocation) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("run", "Answer a prompt, or chat");
  command->add_option("MODEL", options->model, "A model's name, .gguf file or folder")->required();
  command->add_option("PROMPT", options->prompt, "Without it: a chat, or what is piped in");
  command->add_option("--system", options->system, "A system message")->option_text("TEXT");
  const std::pair<const char*, const char*> kSampling[] = {
      {"temperature", "0 always takes the best"},
      {"top-p", "Nucleus sampling"},
      {"top-k", "The k best tokens"},
      {"min-p", "Relative to the best token"},
      {"seed", "The same seed, the same text"},
      {"max-tokens", "Longest answer"}};
  for (const auto& [flag, help] : kSampling) {
    std::string key = flag;
    for (char& c : key) c = c == '-' ? '_' : c;
    command
        ->add_option_function<std::string>(
            std::string("--") + flag,
            [options, key](const std::string& value) { options->sampling[key] = value; }, help)
        ->option_text("VALUE");
  }
  command->add_option("--stop", options->stop, "Text that ends the answer; may be repeated")
      ->option_text("TEXT")
      ->allow_extra_args(false);
  command
      ->add_option("--adapter", options->adapters,
                   "A LoRA adapter: a PEFT folder or a GGUF file; may be repeated")
      ->option_text("PATH")
      ->allow_extra_args(false);
  command->add_flag("--raw", options->raw, "Complete the prompt as it is, without a chat template");
  command->add_flag("-v,--verbose", options->verbose, "Say how fast it was");
  command->callback([&invocation, options] {
    invocation.chosen = [&invocation, options] { return run(invocation, *options); };
  });
}

}  // namespace mlxr::cli
