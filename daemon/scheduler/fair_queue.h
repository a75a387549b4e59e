// Requests that wait for a place in the batch. Who is next: the highest priority; of those, one
// that had to give its place up; else the client that was served least, its requests in order of
// arrival.
//
// Service is counted in tokens computed for a client. A client that comes back counts from where
// the least served one stands, so that idling saves nothing up (virtual token counters: Sheng et
// al., "Fairness in Serving Large Language Models", 2024).
// Not thread-safe: belongs to the scheduler's thread.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "daemon/scheduler/running_sequence.h"

namespace mlxr {

class FairQueue {
 public:
  using SequencePtr = std::unique_ptr<RunningSequence>;

  void push(SequencePtr sequence);
  // Puts back what was popped, before everything of its priority.
  void put_back(SequencePtr sequence);
  RunningSequence* best() const;  // nullptr when empty
  SequencePtr pop();              // takes out best(); not when empty
  std::vector<SequencePtr> take_if(const std::function<bool(const RunningSequence&)>& chosen);
  size_t size() const { return size_; }

  void charge(const std::string& client, int64_t tokens) { clients_[client].served += tokens; }
  int64_t served(const std::string& client) const;
  // A sequence that was pushed once has ended, here or elsewhere.
  void leave(const std::string& client);

 private:
  struct Level {
    std::deque<SequencePtr> put_back;
    std::map<std::string, std::deque<SequencePtr>> clients;
    bool empty() const { return put_back.empty() && clients.empty(); }
  };
  struct Client {
    int64_t served = 0;  // tokens
    int32_t active = 0;  // sequences that wait or run
  };
  std::map<std::string, std::deque<SequencePtr>>::const_iterator next_client(
      const Level& level) const;
  int64_t least_served() const;  // of active clients

  std::map<int32_t, Level, std::greater<>> levels_;  // by priority; none is empty
  std::map<std::string, Client> clients_;
  size_t size_ = 0;
};

}  // namespace mlxr
