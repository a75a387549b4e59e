#include "daemon/server/native/metrics.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>

namespace mlxr::native {
namespace {

struct Metric {
  std::string_view name, type, help;
  double (*value)(const LoadedModelInfo&);
};

template <auto Member>
double stat(const LoadedModelInfo& model) {
  return static_cast<double>(model.stats.*Member);
}

constexpr std::array kMetrics = {
    Metric{"mlxr_requests_running", "gauge", "Requests that are being computed.",
           stat<&SchedulerStats::running>},
    Metric{"mlxr_requests_waiting", "gauge", "Requests that wait for their turn.",
           stat<&SchedulerStats::waiting>},
    Metric{"mlxr_requests_total", "counter", "Requests that were taken.",
           stat<&SchedulerStats::requests>},
    Metric{"mlxr_request_timeouts_total", "counter", "Requests that ran out of time.",
           stat<&SchedulerStats::timeouts>},
    Metric{"mlxr_requests_cancelled_total", "counter", "Requests that their client gave up.",
           stat<&SchedulerStats::cancelled>},
    Metric{"mlxr_preemptions_total", "counter",
           "Times that a request gave its place up to be computed again.",
           stat<&SchedulerStats::preemptions>},
    Metric{"mlxr_context_shifts_total", "counter",
           "Times that an answer filled the context window and went on without its oldest half.",
           stat<&SchedulerStats::context_shifts>},
    Metric{"mlxr_prompt_tokens_total", "counter", "Prompt tokens that were computed.",
           stat<&SchedulerStats::prompt_tokens>},
    Metric{"mlxr_prefix_hit_tokens_total", "counter",
           "Prompt tokens that were not computed, because their KV was found.",
           stat<&SchedulerStats::prefix_hit_tokens>},
    Metric{"mlxr_recomputed_tokens_total", "counter",
           "Tokens that were computed again after a preemption or a context shift.",
           stat<&SchedulerStats::recomputed_tokens>},
    Metric{"mlxr_generated_tokens_total", "counter", "Tokens of answers.",
           stat<&SchedulerStats::generated_tokens>},
    Metric{"mlxr_proposed_tokens_total", "counter", "Tokens that speculation proposed.",
           stat<&SchedulerStats::proposed_tokens>},
    Metric{"mlxr_accepted_tokens_total", "counter", "Proposed tokens that were right.",
           stat<&SchedulerStats::accepted_tokens>},
    Metric{"mlxr_kv_blocks_used", "gauge", "KV blocks of running requests.",
           stat<&SchedulerStats::kv_blocks_used>},
    Metric{"mlxr_kv_blocks_cached", "gauge", "KV blocks that no request uses but one may find.",
           stat<&SchedulerStats::kv_blocks_cached>},
    Metric{"mlxr_kv_blocks", "gauge", "KV blocks of the arena.",
           stat<&SchedulerStats::kv_blocks_total>},
    Metric{"mlxr_kv_window_parts_used", "gauge",
           "KV blocks that sliding windows of running requests reach.",
           stat<&SchedulerStats::kv_window_parts_used>},
    Metric{"mlxr_kv_window_parts", "gauge", "KV blocks for sliding windows in the arena.",
           stat<&SchedulerStats::kv_window_parts_total>},
    Metric{"mlxr_kv_evicted_blocks_total", "counter", "Cached KV blocks that made room for others.",
           stat<&SchedulerStats::kv_evictions>},
    Metric{"mlxr_kv_persisted_blocks_total", "counter", "KV blocks that were written to disk.",
           stat<&SchedulerStats::kv_blocks_persisted>},
    Metric{"mlxr_kv_restored_blocks_total", "counter",
           "KV blocks that were read from disk, and not computed.",
           stat<&SchedulerStats::kv_blocks_restored>},
    Metric{"mlxr_kv_dropped_blocks_total", "counter",
           "KV blocks that were not written, because the disk was too slow or failed.",
           stat<&SchedulerStats::kv_blocks_dropped>},
    Metric{"mlxr_kv_damaged_blocks_total", "counter", "KV blocks found damaged on disk.",
           stat<&SchedulerStats::kv_blocks_damaged>},
    Metric{"mlxr_kv_disk_evicted_blocks_total", "counter",
           "KV blocks on disk that made room for others.",
           stat<&SchedulerStats::kv_disk_evictions>},
    Metric{"mlxr_kv_disk_blocks", "gauge", "KV blocks that are kept on disk.",
           stat<&SchedulerStats::kv_disk_blocks>},
    Metric{"mlxr_kv_disk_bytes", "gauge", "Disk space that KV blocks take.",
           stat<&SchedulerStats::kv_disk_bytes>},
    Metric{"mlxr_kv_bytes", "gauge", "Memory of the KV arena.",
           [](const LoadedModelInfo& m) { return static_cast<double>(m.kv_bytes); }},
    Metric{"mlxr_weight_bytes", "gauge", "Weights in the model's files.",
           [](const LoadedModelInfo& m) { return static_cast<double>(m.facts.weight_bytes); }},
    Metric{"mlxr_model_memory_bytes", "gauge", "Memory that the model takes, as estimated.",
           [](const LoadedModelInfo& m) { return static_cast<double>(m.memory.total()); }},
    Metric{"mlxr_interleaved_weight_bytes", "gauge", "Weights in memory of our own.",
           [](const LoadedModelInfo& m) { return static_cast<double>(m.memory.weights); }},
    Metric{"mlxr_load_seconds", "gauge", "Time that loading the model took.",
           [](const LoadedModelInfo& m) { return m.load_seconds; }},
};

struct Histogram {
  std::string_view name, help;
  DurationHistogram SchedulerStats::*durations;
};

constexpr std::array kHistograms = {
    Histogram{"mlxr_step_seconds", "Time of a step of the engine.", &SchedulerStats::step_seconds},
    Histogram{"mlxr_queue_seconds", "From a request's arrival until it was being computed.",
              &SchedulerStats::queue_seconds},
    Histogram{"mlxr_first_token_seconds", "From a request's arrival until its first token.",
              &SchedulerStats::first_token_seconds},
    Histogram{"mlxr_token_seconds", "Between the tokens of an answer, after the first.",
              &SchedulerStats::token_seconds},
    Histogram{"mlxr_request_seconds", "From a request's arrival until its answer was complete.",
              &SchedulerStats::request_seconds},
};

std::string number(double value) {
  std::array<char, 32> text{};
  const auto end = std::to_chars(text.data(), text.data() + text.size(), value).ptr;
  return {text.data(), end};
}

std::string label(std::string_view name, std::string_view value) {
  std::string out = std::string(name) + "=\"";
  for (const char c : value) {
    if (c == '\\' || c == '"') out += '\\';
    out += c == '\n' ? std::string("\\n") : std::string(1, c);
  }
  return out + '"';
}

void add_head(std::string& out, std::string_view name, std::string_view type,
              std::string_view help) {
  for (const auto& [word, text] : {std::pair("HELP", help), std::pair("TYPE", type)}) {
    out += std::string("# ") + word + " " + std::string(name) + " " + std::string(text) + "\n";
  }
}

void add_sample(std::string& out, std::string_view name, const std::string& labels, double value) {
  out +=
      std::string(name) + (labels.empty() ? "" : "{" + labels + "}") + " " + number(value) + "\n";
}

void add_request_counts(std::string& out, const RequestCounts& requests) {
  constexpr std::string_view kName = "mlxr_api_requests_total";
  add_head(out, kName, "counter",
           "Requests that were answered, by route and HTTP status (gRPC's as HTTP's).");
  for (const auto& [key, count] : requests.all()) {
    const auto& [route, status] = key;
    add_sample(out, kName, label("route", route) + "," + label("status", std::to_string(status)),
               static_cast<double>(count));
  }
}

// Buckets count what is at most their bound.
void add_histogram(std::string& out, const std::string& name, const std::string& labels,
                   const DurationHistogram& histogram) {
  uint64_t count = 0;
  for (size_t i = 0; i < histogram.counts.size(); ++i) {
    count += histogram.counts[i];
    const bool last = i == DurationHistogram::kBounds.size();
    const std::string bound = last ? "+Inf" : number(DurationHistogram::kBounds[i]);
    add_sample(out, name + "_bucket", labels + "," + label("le", bound),
               static_cast<double>(count));
  }
  add_sample(out, name + "_sum", labels, histogram.sum);
  add_sample(out, name + "_count", labels, static_cast<double>(count));
}

struct MemoryMetric {
  std::string_view name, type, help;
  double (*value)(const MemoryStats&);
};

template <auto Member>
double memory_stat(const MemoryStats& memory) {
  return static_cast<double>(memory.*Member);
}

constexpr std::array kMemoryMetrics = {
    MemoryMetric{"mlxr_memory_limit_bytes", "gauge", "Memory that all models may take together.",
                 memory_stat<&MemoryStats::limit>},
    MemoryMetric{"mlxr_memory_reserved_bytes", "gauge",
                 "Memory of models that are loaded, being loaded, or leaving, as estimated.",
                 memory_stat<&MemoryStats::reserved>},
    MemoryMetric{"mlxr_models_loading", "gauge", "Models that are being loaded.",
                 memory_stat<&MemoryStats::loading>},
    MemoryMetric{"mlxr_load_waiting_requests", "gauge", "Requests that wait for a model.",
                 memory_stat<&MemoryStats::waiting>},
    MemoryMetric{"mlxr_model_loads_total", "counter", "Models that were loaded.",
                 memory_stat<&MemoryStats::loads>},
    MemoryMetric{"mlxr_model_load_failures_total", "counter", "Loads that failed.",
                 memory_stat<&MemoryStats::failed_loads>},
    MemoryMetric{"mlxr_model_load_refusals_total", "counter",
                 "Of the loads that failed: those that did not fit the memory.",
                 memory_stat<&MemoryStats::refused_loads>},
};

void add_memory(std::string& out, const MemoryStats& memory) {
  for (const MemoryMetric& metric : kMemoryMetrics) {
    add_head(out, metric.name, metric.type, metric.help);
    add_sample(out, metric.name, "", metric.value(memory));
  }
  constexpr std::string_view kUnloads = "mlxr_model_unloads_total";
  add_head(out, kUnloads, "counter", "Models that left memory, by reason.");
  for (const UnloadReason reason : kUnloadReasons) {
    add_sample(out, kUnloads, label("reason", to_string(reason)),
               static_cast<double>(memory.unloads[static_cast<size_t>(reason)]));
  }
}

// Where the time of steps went.
void add_kernels(std::string& out, std::span<const LoadedModelInfo> models) {
  constexpr std::string_view kName = "mlxr_kernel_seconds_total";
  add_head(out, kName, "counter", "Time of each kernel, and of the graph around them.");
  for (const LoadedModelInfo& model : models) {
    for (const KernelTimes::Entry& kernel : model.stats.kernels.entries()) {
      add_sample(out, kName, label("model", model.name) + "," + label("kernel", kernel.name),
                 std::chrono::duration<double>(kernel.time).count());
    }
  }
}

// Of each name: what all its copies in memory are now.
std::vector<LoadedModelInfo> sums_of(std::vector<LoadedModelInfo> copies) {
  std::vector<LoadedModelInfo> sums;
  for (LoadedModelInfo& copy : copies) {
    const auto sum = std::ranges::find(sums, copy.name, &LoadedModelInfo::name);
    if (sum == sums.end()) {
      sums.push_back(std::move(copy));
      continue;
    }
    sum->stats.add_now(copy.stats);
    sum->kv_bytes += copy.kv_bytes;
    sum->memory += copy.memory;
  }
  return sums;
}

// Of each name: what was counted, by copies that are gone too.
std::vector<LoadedModelInfo> counts_of(const ModelManager& manager) {
  std::vector<LoadedModelInfo> all;
  for (auto& [name, stats] : manager.counted()) {
    all.emplace_back();
    all.back().name = name;
    all.back().stats = stats;
  }
  return all;
}

}  // namespace

std::string metrics_text(const Services& services) {
  const std::vector<LoadedModelInfo> models = sums_of(services.models.loaded());
  const std::vector<LoadedModelInfo> counts = counts_of(services.models);
  std::string out;
  add_head(out, "mlxr_uptime_seconds", "gauge", "Time since the daemon was started.");
  add_sample(out, "mlxr_uptime_seconds", "", services.uptime_seconds());
  add_request_counts(out, services.requests);
  add_memory(out, services.models.memory());
  for (const Metric& metric : kMetrics) {
    add_head(out, metric.name, metric.type, metric.help);
    for (const LoadedModelInfo& model : metric.type == "counter" ? counts : models) {
      add_sample(out, metric.name, label("model", model.name), metric.value(model));
    }
  }
  for (const Histogram& histogram : kHistograms) {
    add_head(out, histogram.name, "histogram", histogram.help);
    for (const LoadedModelInfo& model : counts) {
      add_histogram(out, std::string(histogram.name), label("model", model.name),
                    model.stats.*histogram.durations);
    }
  }
  add_kernels(out, counts);
  return out;
}

}  // namespace mlxr::native
