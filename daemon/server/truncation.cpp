#include "daemon/server/truncation.h"

#include <algorithm>
#include <set>
#include <string>

namespace mlxr {
namespace {

bool has_role(const Json& message, const char* role) { return message.value("role", "") == role; }

bool calls_tools(const Json& message) {
  const auto calls = message.find("tool_calls");
  return calls != message.end() && calls->is_array() && !calls->empty();
}

Truncated without(const Json& messages, const std::vector<std::vector<size_t>>& groups,
                  size_t count) {
  std::set<size_t> gone;
  for (size_t i = 0; i < count; ++i) gone.insert(groups[i].begin(), groups[i].end());
  Truncated rest{Json::array(), gone.size()};
  for (size_t i = 0; i < messages.size(); ++i) {
    if (!gone.contains(i)) rest.messages.push_back(messages[i]);
  }
  return rest;
}

}  // namespace

std::vector<std::vector<size_t>> droppable_messages(const Json& messages) {
  size_t last_user = messages.size();
  for (size_t i = 0; i < messages.size(); ++i) {
    if (has_role(messages[i], "user")) last_user = i;
  }
  std::vector<std::vector<size_t>> groups;
  bool begins_turn = true;
  const size_t end_of_turns = last_user < messages.size() ? last_user : 0;
  for (size_t i = 0; i < end_of_turns; ++i) {
    if (has_role(messages[i], "system")) continue;
    if (begins_turn || has_role(messages[i], "user")) groups.emplace_back();
    groups.back().push_back(i);
    begins_turn = false;
  }
  // What followed the last user's message: rounds of calls and results, but for the last round.
  std::vector<std::vector<size_t>> rounds;
  bool begins_round = true;
  for (size_t i = last_user < messages.size() ? last_user + 1 : 0; i < messages.size(); ++i) {
    if (has_role(messages[i], "system")) continue;
    if (begins_round || calls_tools(messages[i])) rounds.emplace_back();
    rounds.back().push_back(i);
    begins_round = false;
  }
  if (!rounds.empty()) rounds.pop_back();
  groups.insert(groups.end(), rounds.begin(), rounds.end());
  return groups;
}

Truncated truncate_messages(const Json& messages,
                            const std::function<bool(const Json& messages)>& fits) {
  const auto groups = droppable_messages(messages);
  // The fewest that have to go: what fits with some dropped fits with more dropped.
  size_t low = 0, high = groups.size();
  while (low < high) {
    const size_t middle = low + (high - low) / 2;
    if (fits(without(messages, groups, middle).messages)) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return without(messages, groups, low);
}

}  // namespace mlxr
