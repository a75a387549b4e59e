// The answers of /v1/responses that clients may come back to: in memory, the least recently used
// ones go when they outgrow their limit.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

namespace mlxr::openai {

// JSON as text, so that its size is known.
struct StoredResponse {
  std::string response;      // what GET answers
  std::string conversation;  // every item up to and with its output: what a next turn goes on from
  std::string input;         // the items of its own request
};

// Thread-safe. Each owner (an API key; empty: all who need none) sees its own responses only.
class ResponseStore {
 public:
  // `limit`: bytes of all texts together; 0 keeps nothing.
  explicit ResponseStore(int64_t limit) : limit_(limit) {}

  // One that is larger than the limit by itself is not kept.
  void put(const std::string& owner, const std::string& id, StoredResponse response);
  std::optional<StoredResponse> find(const std::string& owner, const std::string& id);
  // False: there is no such response.
  bool erase(const std::string& owner, const std::string& id);
  int64_t bytes() const;

 private:
  using Key = std::pair<std::string, std::string>;
  struct Entry {
    Key key;
    StoredResponse response;
  };
  using Entries = std::list<Entry>;  // the most recently used first

  void drop(Entries::iterator entry);

  const int64_t limit_;
  mutable std::mutex mutex_;
  Entries entries_;
  std::map<Key, Entries::iterator> places_;
  int64_t bytes_ = 0;
};

}  // namespace mlxr::openai
