#include "daemon/server/openai/response_store.h"

namespace mlxr::openai {
namespace {

int64_t size_of(const StoredResponse& response) {
  return static_cast<int64_t>(response.response.size() + response.conversation.size() +
                              response.input.size());
}

}  // namespace

void ResponseStore::put(const std::string& owner, const std::string& id, StoredResponse response) {
  const int64_t size = size_of(response);
  const std::lock_guard lock(mutex_);
  const Key key{owner, id};
  if (const auto place = places_.find(key); place != places_.end()) {
    drop(place->second);
  }
  if (size > limit_) {
    return;
  }
  while (bytes_ + size > limit_) {
    drop(std::prev(entries_.end()));
  }
  entries_.push_front({key, std::move(response)});
  places_[key] = entries_.begin();
  bytes_ += size;
}

std::optional<StoredResponse> ResponseStore::find(const std::string& owner, const std::string& id) {
  const std::lock_guard lock(mutex_);
  const auto place = places_.find({owner, id});
  if (place == places_.end()) {
    return std::nullopt;
  }
  entries_.splice(entries_.begin(), entries_, place->second);
  return place->second->response;
}

bool ResponseStore::erase(const std::string& owner, const std::string& id) {
  const std::lock_guard lock(mutex_);
  const auto place = places_.find({owner, id});
  if (place == places_.end()) {
    return false;
  }
  drop(place->second);
  return true;
}

int64_t ResponseStore::bytes() const {
  const std::lock_guard lock(mutex_);
  return bytes_;
}

void ResponseStore::drop(Entries::iterator entry) {
  bytes_ -= size_of(entry->response);
  places_.erase(entry->key);
  entries_.erase(entry);
}

}  // namespace mlxr::openai
