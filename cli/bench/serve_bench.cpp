#include "cli/bench/serve_bench.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <random>

#include "cli/bench/load.h"
#include "cli/client/private_daemon.h"
#include "cli/model_argument.h"
#include "cli/text_table.h"
#include "core/base/error.h"
#include "core/runtime/model.h"

namespace mlxr::cli {
namespace {

constexpr int kRunningAnswers = 4;
constexpr int kRunningTokens = 512;  // long enough to last while the long prompt is read

// What one test measured. Seconds, and tokens a second.
struct Result {
  std::string name;
  size_t requests = 0;
  double generated_per_second = 0, tokens_per_second = 0;
  double ttft[2] = {}, gap[2] = {};  // the median, and the 95th percentile
  int64_t cached_tokens = 0;
};

Result summary(std::string name, const std::vector<CompletionTimes>& answers) {
  Result result{.name = std::move(name), .requests = answers.size()};
  std::vector<double> ttft;
  double first = answers.front().sent, last = 0;
  int64_t generated = 0, prompt = 0;
  for (const CompletionTimes& answer : answers) {
    first = std::min(first, answer.sent);
    last = std::max(last, answer.end);
    generated += answer.generated_tokens;
    prompt += answer.prompt_tokens;
    result.cached_tokens += answer.cached_tokens;
    ttft.push_back(answer.ttft());
  }
  const std::vector<double> gaps = chunk_gaps(answers, first, last);
  result.generated_per_second = static_cast<double>(generated) / (last - first);
  result.tokens_per_second = static_cast<double>(generated + prompt) / (last - first);
  for (int i = 0; i < 2; ++i) {
    result.ttft[i] = percentile(ttft, i == 0 ? 0.5 : 0.95);
    result.gap[i] = percentile(gaps, i == 0 ? 0.5 : 0.95);
  }
  return result;
}

class ServeBench {
 public:
  explicit ServeBench(const ServeBenchOptions& options)
      : options_(options),
        facts_(read_model_facts(options.model)),
        window_(std::min(facts_.context_length, longest_sequence())),
        daemon_(flags()) {
    load();
  }

  void run(const std::function<void(const Result&)>& report) {
    const std::string clients = std::to_string(options_.clients) + " clients";
    if (fits(options_.prompt + options_.generate)) {
      report(test("1 client", prompts(1, {}, options_.prompt)));
      report(test(clients, prompts(options_.clients, {}, options_.prompt)));
    }
    if (fits(options_.prefix + options_.prompt + options_.generate)) {
      const int whole = options_.prefix + options_.prompt;
      report(test(clients + ", own prefixes", prompts(options_.clients, {}, whole)));
      report(test(clients + ", one prefix",
                  prompts(options_.clients, tokens(options_.prefix), options_.prompt)));
      const std::vector<int32_t> prefix = tokens(options_.prefix);
      report(test("a prefix, first time", prompts(1, prefix, options_.prompt)));
      report(test("a prefix, again", prompts(1, prefix, options_.prompt)));
      daemon_.restart(flags());
      load();
      report(test("a prefix, after a restart", prompts(1, prefix, options_.prompt)));
    }
    if (fits(options_.long_prompt + options_.generate) && fits(options_.prompt + kRunningTokens)) {
      report(long_prompt_among_answers());
    }
  }

 private:
  // Memory is for what is asked, not for what the model could hold.
  int32_t longest_sequence() const {
    return std::max({options_.prefix + options_.prompt + options_.generate,
                     options_.prompt + kRunningTokens, options_.long_prompt + options_.generate});
  }

  std::vector<std::string> flags() const {
    return {"--kv-type",        options_.kv_type,
            "--repack",         options_.repack ? "true" : "false",
            "--threads",        std::to_string(options_.threads),
            "--context-length", std::to_string(window_)};
  }

  void load() { model_ = load_in_daemon(daemon_.client(), options_.model); }

  bool fits(int tokens) const { return tokens <= window_; }

  std::vector<int32_t> tokens(int count) {
    std::uniform_int_distribution<int32_t> any(0, facts_.vocab_size - 1);
    std::vector<int32_t> out(static_cast<size_t>(count));
    for (int32_t& token : out) token = any(random_);
    return out;
  }

  // `count` requests: the prefix, then `own` tokens that no other prompt has.
  std::vector<CompletionRequest> prompts(int count, const std::vector<int32_t>& prefix, int own) {
    std::vector<CompletionRequest> out(static_cast<size_t>(count));
    for (CompletionRequest& request : out) {
      request = {.prompt = prefix, .generate = options_.generate};
      const std::vector<int32_t> rest = tokens(own);
      request.prompt.insert(request.prompt.end(), rest.begin(), rest.end());
    }
    return out;
  }

  Result test(std::string name, const std::vector<CompletionRequest>& requests) {
    return summary(std::move(name), run_load(daemon_.client(), model_, requests));
  }

  // The gaps are those of the running answers, while the long prompt is read.
  Result long_prompt_among_answers() {
    std::vector<CompletionRequest> requests = prompts(kRunningAnswers, {}, options_.prompt);
    for (CompletionRequest& request : requests) request.generate = kRunningTokens;
    requests.push_back(prompts(1, {}, options_.long_prompt).front());
    requests.back().late = true;
    auto answers = run_load(daemon_.client(), model_, requests);
    Result result = summary(std::to_string(options_.long_prompt) + " tokens among " +
                                std::to_string(kRunningAnswers) + " answers",
                            answers);
    const CompletionTimes arrived = answers.back();
    answers.pop_back();
    const auto gaps = chunk_gaps(answers, arrived.sent, arrived.chunks.front());
    if (gaps.empty()) {
      throw Error(ErrorCode::kInternal, "the running answers ended before the long prompt came");
    }
    for (int i = 0; i < 2; ++i) {
      result.gap[i] = percentile(gaps, i == 0 ? 0.5 : 0.95);
      result.ttft[i] = arrived.ttft();
    }
    return result;
  }

  ServeBenchOptions options_;
  const ModelFacts facts_;
  const int32_t window_;  // tokens that a sequence may hold
  PrivateDaemon daemon_;
  std::string model_;
  std::mt19937 random_{42};  // the same tokens in every run
};

std::string number(double value, int digits) {
  char text[32];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

void print_table(const std::vector<Result>& results) {
  std::vector<std::vector<std::string>> rows{{"TEST", "REQUESTS", "GENERATED/S", "TOKENS/S",
                                              "TTFT P50", "P95 MS", "GAP P50", "P95 MS", "CACHED"}};
  for (const Result& r : results) {
    rows.push_back({r.name, std::to_string(r.requests), number(r.generated_per_second, 1),
                    number(r.tokens_per_second, 1), number(r.ttft[0] * 1e3, 0),
                    number(r.ttft[1] * 1e3, 0), number(r.gap[0] * 1e3, 1),
                    number(r.gap[1] * 1e3, 1), std::to_string(r.cached_tokens)});
  }
  std::fputs(format_table(rows, {1, 2, 3, 4, 5, 6, 7, 8}).c_str(), stdout);
}

Json to_json(const Result& r) {
  return {{"test", r.name},
          {"requests", r.requests},
          {"generated_tokens_per_second", r.generated_per_second},
          {"tokens_per_second", r.tokens_per_second},
          {"ttft_ms", {{"p50", r.ttft[0] * 1e3}, {"p95", r.ttft[1] * 1e3}}},
          {"gap_ms", {{"p50", r.gap[0] * 1e3}, {"p95", r.gap[1] * 1e3}}},
          {"cached_tokens", r.cached_tokens}};
}

}  // namespace

int serve_bench(const ServeBenchOptions& options) {
  ServeBench bench(options);
  std::vector<Result> results;
  bench.run([&](const Result& result) { results.push_back(result); });
  if (results.empty()) {
    throw Error(
        ErrorCode::kInvalidArgument,
        "the model's window is shorter than every test; ask for less with -p, -n and --prefix");
  }
  if (options.json) {
    Json rows = Json::array();
    for (const Result& result : results) rows.push_back(to_json(result));
    std::printf("%s\n", rows.dump(2).c_str());
  } else {
    print_table(results);
  }
  return 0;
}

}  // namespace mlxr::cli
