#include "daemon/server/load_wait.h"

#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <mutex>

#include "daemon/server/http/api_error.h"
#include "daemon/server/services.h"

namespace mlxr {

struct LoadWait::News : std::enable_shared_from_this<News> {
  explicit News(const asio::any_io_executor& executor)
      : wake(executor, asio::steady_timer::time_point::max()) {}

  void tell(std::shared_ptr<ServedModel> loaded, std::exception_ptr problem) {
    {
      const std::lock_guard lock(mutex);
      model = std::move(loaded);
      failure = std::move(problem);
      heard = true;
    }
    asio::post(wake.get_executor(), [self = shared_from_this()] { self->wake.cancel(); });
  }
  bool is_there() {
    const std::lock_guard lock(mutex);
    return heard;
  }

  std::mutex mutex;
  bool heard = false;
  std::shared_ptr<ServedModel> model;
  std::exception_ptr failure;
  asio::steady_timer wake;  // cancelled when there is news; the executor's
};

LoadWait::LoadWait(ModelManager& models, Exchange& exchange)
    : models_(models), exchange_(exchange), news_(std::make_shared<News>(exchange.executor())) {}

LoadWait::~LoadWait() { exchange_.on_disconnect(nullptr); }

void LoadWait::begin(const ModelEntry& entry, std::optional<std::chrono::milliseconds> timeout) {
  id_ = models_.acquire(
      entry, timeout,
      [news = news_](std::shared_ptr<ServedModel> model, std::exception_ptr failure) {
        news->tell(std::move(model), std::move(failure));
      });
  exchange_.on_disconnect([this] { models_.give_up(id_); });
  if (exchange_.disconnected()) {
    models_.give_up(id_);
  }
}

Task<void> LoadWait::keep_alive(Exchange& exchange, KeptStream& stream) {
  if (exchange.started()) {
    co_await stream.ping_if_idle();
  } else {
    co_await stream.begin();
  }
}

Task<std::shared_ptr<ServedModel>> LoadWait::end(const ModelEntry& entry, KeptStream* stream) {
  // A wake-up that is posted between this look and the wait runs after the coroutine suspends.
  while (!news_->is_there()) {
    if (stream != nullptr) {
      news_->wake.expires_after(KeptStream::kPingInterval);
    }
    boost::system::error_code woken;
    co_await news_->wake.async_wait(asio::redirect_error(asio::use_awaitable, woken));
    if (!woken && stream != nullptr && !exchange_.disconnected()) {
      co_await keep_alive(exchange_, *stream);
    }
  }
  if (exchange_.disconnected()) {
    throw RequestError({499, "the client went away while its model was being loaded",
                        "invalid_request_error", "", "client_closed_request"});
  }
  if (news_->failure) {
    rethrow_about_model(news_->failure, entry);
  }
  co_return std::move(news_->model);
}

}  // namespace mlxr
