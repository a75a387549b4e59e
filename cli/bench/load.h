// Clients that stream completions of random tokens from a daemon, and when their tokens came: what
// `mlx bench --serve` measures.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "cli/client/daemon_client.h"

namespace mlxr::cli {

// Prompts are token ids, so that a model's tokenizer does not matter.
struct CompletionRequest {
  std::vector<int32_t> prompt;
  int generate = 0;  // tokens; the model's own end does not count
  bool late = false;
};

// Times in seconds of one clock.
struct CompletionTimes {
  double sent = 0;
  std::vector<double> chunks;  // when text came
  double end = 0;
  int64_t prompt_tokens = 0, cached_tokens = 0, generated_tokens = 0;

  double ttft() const { return chunks.front() - sent; }
};

// Sends all requests at once, those that come `late` when every other answer has begun, and waits
// for the answers. Throws what the daemon said when it refuses one, and Error{kUnavailable} when
// interrupted.
std::vector<CompletionTimes> run_load(const DaemonClient& client, const std::string& model,
                                      std::span<const CompletionRequest> requests);

// Gaps between chunks, of all answers, in seconds; only those that end within [from, to].
std::vector<double> chunk_gaps(std::span<const CompletionTimes> answers, double from, double to);

// Between the closest ranks, linearly; 0 for no values. `share` lies in [0, 1].
double percentile(std::vector<double> values, double share);

}  // namespace mlxr::cli
