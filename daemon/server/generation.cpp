#include "daemon/server/generation.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <deque>
#include <iterator>
#include <mutex>

namespace mlxr {

// Holds no model: the last reference to one must not be dropped on its scheduler's own thread.
struct Generation::Mailbox : std::enable_shared_from_this<Mailbox> {
  explicit Mailbox(const asio::any_io_executor& executor) : wake(executor) {}

  void put(int choice, GenerateEvent&& event);
  std::optional<ChoiceEvent> take();

  std::mutex mutex;
  std::deque<ChoiceEvent> events;
  bool wake_posted = false;
  asio::steady_timer wake;  // expires early when something was put; the executor's
};

namespace {

void merge(GenerateEvent& into, GenerateEvent&& next) {
  next.text.insert(0, into.text);
  next.tokens.insert(next.tokens.begin(), into.tokens.begin(), into.tokens.end());
  next.logprobs.insert(next.logprobs.begin(), std::make_move_iterator(into.logprobs.begin()),
                       std::make_move_iterator(into.logprobs.end()));
  if (!into.prompt_logprobs.empty()) {
    next.prompt_logprobs = std::move(into.prompt_logprobs);
  }
  into = std::move(next);
}

// Clients with different keys never share cached prefixes: from the time an answer takes, one could
// tell what another asked.
void put_in_name_of(GenerateRequest& request, const Caller& caller) {
  request.client = caller.client();
  if (!caller.key_id.empty() || !request.cache_salt.empty()) {
    request.cache_salt = caller.key_id + '\n' + request.cache_salt;
  }
  if (!caller.scopes.admin) {
    request.priority =
        std::min(request.priority, 0);  // nobody may overtake other people's requests
  }
}

}  // namespace

void Generation::Mailbox::put(int choice, GenerateEvent&& event) {
  bool must_post = false;
  {
    const std::lock_guard lock(mutex);
    const auto waiting = std::find_if(events.begin(), events.end(), [&](const ChoiceEvent& other) {
      return other.choice == choice;
    });
    if (waiting == events.end()) {
      events.push_back({choice, std::move(event)});
    } else {
      merge(waiting->event, std::move(event));
    }
    must_post = !wake_posted;
    wake_posted = true;
  }
  if (must_post) {
    asio::post(wake.get_executor(), [self = shared_from_this()] { self->wake.cancel(); });
  }
}

std::optional<ChoiceEvent> Generation::Mailbox::take() {
  const std::lock_guard lock(mutex);
  wake_posted = false;
  if (events.empty()) {
    return std::nullopt;
  }
  ChoiceEvent event = std::move(events.front());
  events.pop_front();
  return event;
}

Generation::Generation(const Services& services, Exchange& exchange,
                       std::shared_ptr<ServedModel> model)
    : config_(services.config),
      caller_(exchange.caller),
      request_id_(exchange.record.id),
      began_(exchange.began),
      model_(std::move(model)),
      mailbox_(std::make_shared<Mailbox>(exchange.executor())) {}

Generation::~Generation() {
  if (!finished()) {
    cancel();
  }
}

void Generation::submit(GenerateRequest request) {
  const int choice = choices();
  put_in_name_of(request, caller_);
  request.timeout = time_limit(config_, request.timeout);
  request.waited = std::chrono::duration_cast<std::chrono::milliseconds>(
      std::chrono::steady_clock::now() - began_);
  request.name = choice == 0 ? request_id_ : request_id_ + "/" + std::to_string(choice);
  ids_.push_back(model_->scheduler().submit(std::move(request),
                                            [mailbox = mailbox_, choice](GenerateEvent&& event) {
                                              mailbox->put(choice, std::move(event));
                                            }));
}

Task<std::optional<ChoiceEvent>> Generation::next(std::chrono::steady_clock::time_point deadline) {
  while (true) {
    // Armed before looking: a wake-up that is posted meanwhile runs after this coroutine suspends.
    mailbox_->wake.expires_at(deadline);
    std::optional<ChoiceEvent> event = mailbox_->take();
    if (event) {
      finals_ += event->event.final ? 1 : 0;
      co_return event;
    }
    if (std::chrono::steady_clock::now() >= deadline) {
      co_return std::nullopt;
    }
    boost::system::error_code ignored;
    co_await mailbox_->wake.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  }
}

void Generation::cancel() {
  for (const RequestId id : ids_) {
    model_->scheduler().cancel(id);
  }
}

CancelOnDisconnect::CancelOnDisconnect(Exchange& exchange, Generation& generation)
    : exchange_(exchange) {
  exchange.on_disconnect([&generation] { generation.cancel(); });
  if (exchange.disconnected()) {
    generation.cancel();
  }
}

bool failed(const GenerateEvent& event) {
  return event.final &&
         (event.reason == FinishReason::kError || event.reason == FinishReason::kCancelled);
}

ApiError failure_of(const GenerateEvent& event, const Services& services) {
  if (event.reason == FinishReason::kCancelled) {
    return {503, "the answer was cut: the server is shutting down or the model was unloaded",
            "server_error", "", "cancelled"};
  }
  return to_api_error(event.error_code, event.error, services.draining);
}

}  // namespace mlxr
