// "best_of" of completions: more answers than are shown, of which the likeliest are.
#pragma once

#include <vector>

#include "daemon/server/answer_format.h"

namespace mlxr::openai {

// Of each prompt's `best_of` answers, which follow each other, the `n` whose tokens have the
// highest logarithm of probability on average, the best first. An answer without tokens is the
// worst.
std::vector<Answer> best_answers(std::vector<Answer> answers, int best_of, int n);

}  // namespace mlxr::openai
