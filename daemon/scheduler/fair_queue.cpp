#include "daemon/scheduler/fair_queue.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace mlxr {

int64_t FairQueue::least_served() const {
  int64_t least = std::numeric_limits<int64_t>::max();
  for (const auto& [name, client] : clients_) {
    if (client.active > 0) least = std::min(least, client.served);
  }
  return least == std::numeric_limits<int64_t>::max() ? 0 : least;
}

void FairQueue::push(SequencePtr sequence) {
  const GenerateRequest& request = sequence->request();
  const int64_t least = least_served();
  Client& client = clients_[request.client];
  if (client.active++ == 0) client.served = std::max(client.served, least);
  levels_[request.priority].clients[request.client].push_back(std::move(sequence));
  ++size_;
}

void FairQueue::put_back(SequencePtr sequence) {
  const int32_t priority = sequence->request().priority;
  levels_[priority].put_back.push_front(std::move(sequence));
  ++size_;
}

std::map<std::string, std::deque<FairQueue::SequencePtr>>::const_iterator FairQueue::next_client(
    const Level& level) const {
  return std::ranges::min_element(level.clients, {}, [&](const auto& entry) {
    return std::pair(served(entry.first), entry.second.front()->id());
  });
}

RunningSequence* FairQueue::best() const {
  if (levels_.empty()) return nullptr;
  const Level& level = levels_.begin()->second;
  if (!level.put_back.empty()) return level.put_back.front().get();
  return next_client(level)->second.front().get();
}

FairQueue::SequencePtr FairQueue::pop() {
  Level& level = levels_.begin()->second;
  SequencePtr sequence;
  if (!level.put_back.empty()) {
    sequence = std::move(level.put_back.front());
    level.put_back.pop_front();
  } else {
    const auto client = level.clients.find(next_client(level)->first);
    sequence = std::move(client->second.front());
    client->second.pop_front();
    if (client->second.empty()) level.clients.erase(client);
  }
  if (level.empty()) levels_.erase(levels_.begin());
  --size_;
  return sequence;
}

std::vector<FairQueue::SequencePtr> FairQueue::take_if(
    const std::function<bool(const RunningSequence&)>& chosen) {
  std::vector<SequencePtr> taken;
  const auto sift = [&](std::deque<SequencePtr>& sequences) {
    for (SequencePtr& sequence : sequences) {
      if (chosen(*sequence)) taken.push_back(std::move(sequence));
    }
    std::erase(sequences, nullptr);
  };
  for (auto& [priority, level] : levels_) {
    sift(level.put_back);
    for (auto& [name, sequences] : level.clients) sift(sequences);
    std::erase_if(level.clients, [](const auto& entry) { return entry.second.empty(); });
  }
  std::erase_if(levels_, [](const auto& entry) { return entry.second.empty(); });
  size_ -= taken.size();
  return taken;
}

int64_t FairQueue::served(const std::string& client) const {
  const auto found = clients_.find(client);
  return found == clients_.end() ? 0 : found->second.served;
}

void FairQueue::leave(const std::string& client) {
  --clients_[client].active;
  // An idle client that is not ahead of the others would come back as a new one does.
  const bool all_idle =
      std::ranges::all_of(clients_, [](const auto& entry) { return entry.second.active == 0; });
  const int64_t least = least_served();
  std::erase_if(clients_, [&](const auto& entry) {
    return entry.second.active == 0 && (all_idle || entry.second.served <= least);
  });
}

}  // namespace mlxr
