#include "daemon/telemetry/log.h"

#include <fcntl.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core/base/error.h"

namespace mlxr {
namespace {

// spdlog would make the file with the umask's mode; a log belongs to its owner.
void create_private_file(const std::filesystem::path& file) {
  if (file.has_parent_path()) {
    std::error_code ignored;
    std::filesystem::create_directories(file.parent_path(), ignored);
  }
  const int descriptor = ::open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (descriptor < 0) {
    throw Error(ErrorCode::kIo,
                "cannot write the log file " + file.string() + ": " + std::strerror(errno));
  }
  ::close(descriptor);
}

// A value that holds spaces or quotes would break "key=value" lines.
std::string quoted(const std::string& value) {
  std::string text = "\"";
  for (const char c : value) {
    if (c == '"' || c == '\\') {
      text += '\\';
    }
    text += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  }
  return text + '"';
}

}  // namespace

void start_logging(const std::string& level, const std::optional<std::filesystem::path>& file) {
  std::shared_ptr<spdlog::logger> logger;
  if (file) {
    create_private_file(*file);
    logger = std::make_shared<spdlog::logger>(
        "mlxrunnerd", std::make_shared<spdlog::sinks::basic_file_sink_mt>(file->string()));
  } else {
    logger = std::make_shared<spdlog::logger>("mlxrunnerd",
                                              std::make_shared<spdlog::sinks::stderr_sink_mt>());
  }
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %l %v");
  logger->set_level(spdlog::level::from_str(level == "warn" ? "warning" : level));
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
}

std::string to_log_line(const RequestRecord& record) {
  std::string line = fmt::format("request id={} route={} status={}", record.id,
                                 quoted(record.route), record.status);
  if (!record.key.empty()) {
    line += " key=" + record.key;
  }
  if (!record.model.empty()) {
    line += " model=" + quoted(record.model);
  }
  if (record.prompt_tokens >= 0) {
    line += fmt::format(" prompt_tokens={} cached_tokens={}", record.prompt_tokens,
                        record.cached_tokens);
  }
  if (record.generated_tokens >= 0) {
    line += fmt::format(" tokens={}", record.generated_tokens);
  }
  if (!record.finish.empty()) {
    line += " finish=" + record.finish;
  }
  return line + fmt::format(" ms={:.1f}", record.milliseconds);
}

void log_request(const RequestRecord& record) { spdlog::info("{}", to_log_line(record)); }

}  // namespace mlxr
