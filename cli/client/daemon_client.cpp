#include "cli/client/daemon_client.h"

#include <curl/curl.h>

#include <chrono>
#include <memory>

#include "cli/client/progress_line.h"
#include "core/base/error.h"

namespace mlxr::cli {
namespace {

using Clock = std::chrono::steady_clock;
using EasyHandle = std::unique_ptr<CURL, decltype(&curl_easy_cleanup)>;
using MultiHandle = std::unique_ptr<CURLM, decltype(&curl_multi_cleanup)>;
using HeaderList = std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)>;
constexpr auto kShowLabelAfter = std::chrono::milliseconds(500);

ErrorCode code_of(int status) {
  switch (status) {
    case 400:
    case 413:
      return ErrorCode::kInvalidArgument;
    case 404:
      return ErrorCode::kNotFound;
    case 429:
    case 503:
      return ErrorCode::kUnavailable;
    default:
      return ErrorCode::kInternal;
  }
}

// {"error": {"message": ...}}, the shape of every refusal of the daemon.
[[noreturn]] void throw_refusal(const Reply& reply) {
  std::string message = "the daemon answered with status " + std::to_string(reply.status);
  const Json body = Json::parse(reply.body, nullptr, false);
  if (body.is_object() && body.contains("error") && body["error"].is_object()) {
    message = body["error"].value("message", message);
  }
  throw Error(code_of(reply.status), message);
}

// One request: sent, waited for, its answer given on piece by piece.
class Transfer {
 public:
  Transfer(const DaemonAddress& address, const std::string& path);
  void set_body(const Json& body);

  // The status, 0 when interrupted, nothing when no daemon listens. Pieces of a 200 answer go to
  // `on_data` where there is one; everything else is kept in body().
  std::optional<int> perform(const std::function<void(std::string_view)>& on_data,
                             const Interrupt* interrupt, const std::string& label);
  const std::string& body() const { return received_; }

 private:
  static size_t receive(char* data, size_t size, size_t count, void* self);
  void take(std::string_view data);
  int status() const;
  void add_header(const std::string& line);
  std::optional<int> result(CURLcode code) const;

  const DaemonAddress& address_;
  EasyHandle easy_{curl_easy_init(), curl_easy_cleanup};
  MultiHandle multi_{curl_multi_init(), curl_multi_cleanup};
  HeaderList headers_{nullptr, curl_slist_free_all};
  std::string sent_, received_;
  const std::function<void(std::string_view)>* on_data_ = nullptr;
  std::exception_ptr failure_;  // of on_data: must not pass through C
};

Transfer::Transfer(const DaemonAddress& address, const std::string& path) : address_(address) {
  CURL* easy = easy_.get();
  const bool remote = !address.url.empty();
  if (!remote) curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, address.socket.c_str());
  curl_easy_setopt(easy, CURLOPT_URL, ((remote ? address.url : "http://localhost") + path).c_str());
  if (!address.ca_file.empty()) curl_easy_setopt(easy, CURLOPT_CAINFO, address.ca_file.c_str());
  if (remote && !address.key.empty()) add_header("Authorization: Bearer " + address.key);
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy, CURLOPT_PROXY, "");
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, receive);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, this);
}

void Transfer::set_body(const Json& body) {
  sent_ = body.dump(-1, ' ', false, Json::error_handler_t::replace);
  // Without "Expect", which would add a turn before long bodies.
  add_header("Content-Type: application/json");
  add_header("Expect:");
  curl_easy_setopt(easy_.get(), CURLOPT_POSTFIELDSIZE, static_cast<long>(sent_.size()));
  curl_easy_setopt(easy_.get(), CURLOPT_POSTFIELDS, sent_.c_str());
}

void Transfer::add_header(const std::string& line) {
  headers_.reset(curl_slist_append(headers_.release(), line.c_str()));
  curl_easy_setopt(easy_.get(), CURLOPT_HTTPHEADER, headers_.get());
}

size_t Transfer::receive(char* data, size_t size, size_t count, void* self) {
  auto* transfer = static_cast<Transfer*>(self);
  try {
    transfer->take({data, size * count});
    return size * count;
  } catch (...) {
    transfer->failure_ = std::current_exception();
    return 0;
  }
}

void Transfer::take(std::string_view data) {
  if (on_data_ != nullptr && *on_data_ && status() == 200) {
    (*on_data_)(data);
  } else {
    received_ += data;
  }
}

int Transfer::status() const {
  long status = 0;
  curl_easy_getinfo(easy_.get(), CURLINFO_RESPONSE_CODE, &status);
  return static_cast<int>(status);
}

std::optional<int> Transfer::result(CURLcode code) const {
  if (failure_) std::rethrow_exception(failure_);
  if (code == CURLE_OK) return status();
  if (code == CURLE_COULDNT_CONNECT) return std::nullopt;
  if (code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE) {
    throw Error(ErrorCode::kUnavailable, "the certificate of " + address_.text() +
                                             " cannot be verified (" + curl_easy_strerror(code) +
                                             "); name the file of who signed it with --ca");
  }
  if (!address_.url.empty()) {
    throw Error(ErrorCode::kUnavailable,
                "cannot talk to " + address_.url + ": " + curl_easy_strerror(code));
  }
  throw Error(ErrorCode::kUnavailable, std::string("the connection to the daemon broke (") +
                                           curl_easy_strerror(code) +
                                           "); its log, mlxrunnerd.log, may say why");
}

std::optional<int> Transfer::perform(const std::function<void(std::string_view)>& on_data,
                                     const Interrupt* interrupt, const std::string& label) {
  on_data_ = &on_data;
  const auto start = Clock::now();
  std::optional<ProgressLine> progress;
  curl_multi_add_handle(multi_.get(), easy_.get());
  std::optional<CURLcode> code;
  while (!code) {
    int running = 0, queued = 0;
    curl_multi_perform(multi_.get(), &running);
    while (const CURLMsg* message = curl_multi_info_read(multi_.get(), &queued)) {
      if (message->msg == CURLMSG_DONE) code = message->data.result;
    }
    if (code) break;
    curl_waitfd wake{interrupt != nullptr ? interrupt->fd() : -1, CURL_WAIT_POLLIN, 0};
    curl_multi_poll(multi_.get(), &wake, interrupt != nullptr ? 1 : 0, 200, nullptr);
    if (interrupt != nullptr && interrupt->raised()) break;
    if (!label.empty() && !progress && Clock::now() - start > kShowLabelAfter) {
      progress.emplace(label);
    }
  }
  curl_multi_remove_handle(multi_.get(), easy_.get());
  return code ? result(*code) : 0;
}

[[noreturn]] void throw_gone(const DaemonAddress& address) {
  throw Error(ErrorCode::kUnavailable, "no daemon listens on " + address.text());
}

Json parse_reply(const Reply& reply) {
  if (reply.status >= 400) throw_refusal(reply);
  Json body = Json::parse(reply.body, nullptr, false);
  if (body.is_discarded()) {
    throw Error(ErrorCode::kInternal, "the daemon's answer is not JSON");
  }
  return body;
}

}  // namespace

std::optional<Reply> DaemonClient::try_get(const std::string& path) const {
  Transfer transfer(address_, path);
  const auto status = transfer.perform({}, nullptr, "");
  if (!status) return std::nullopt;
  return Reply{*status, transfer.body()};
}

Json DaemonClient::get(const std::string& path) const {
  const std::optional<Reply> reply = try_get(path);
  if (!reply) throw_gone(address_);
  return parse_reply(*reply);
}

Json DaemonClient::post(const std::string& path, const Json& body, const std::string& label) const {
  Transfer transfer(address_, path);
  transfer.set_body(body);
  const auto status = transfer.perform({}, nullptr, label);
  if (!status) throw_gone(address_);
  return parse_reply({*status, transfer.body()});
}

bool DaemonClient::stream(const std::string& path, const Json& body,
                          const std::function<void(std::string_view)>& on_data,
                          const Interrupt& interrupt) const {
  Transfer transfer(address_, path);
  transfer.set_body(body);
  const auto status = transfer.perform(on_data, &interrupt, "");
  if (!status) throw_gone(address_);
  if (*status >= 400) throw_refusal({*status, transfer.body()});
  return *status != 0;
}

std::string escape_segment(const std::string& text) {
  const std::unique_ptr<char, decltype(&curl_free)> escaped(
      curl_easy_escape(nullptr, text.c_str(), static_cast<int>(text.size())), curl_free);
  return escaped ? escaped.get() : text;
}

}  // namespace mlxr::cli
