#include "daemon/server/openai/best_of.h"

#include <algorithm>
#include <limits>

namespace mlxr::openai {
namespace {

double mean_logprob(const Answer& answer) {
  if (answer.logprobs.empty()) {
    return -std::numeric_limits<double>::infinity();
  }
  double sum = 0;
  for (const GeneratedLogprob& token : answer.logprobs) {
    sum += token.sampled.logprob;
  }
  return sum / static_cast<double>(answer.logprobs.size());
}

}  // namespace

std::vector<Answer> best_answers(std::vector<Answer> answers, int best_of, int n) {
  std::vector<Answer> best;
  for (auto first = answers.begin(); first != answers.end(); first += best_of) {
    std::stable_sort(first, first + best_of, [](const Answer& a, const Answer& b) {
      return mean_logprob(a) > mean_logprob(b);
    });
    best.insert(best.end(), std::make_move_iterator(first), std::make_move_iterator(first + n));
  }
  return best;
}

}  // namespace mlxr::openai
