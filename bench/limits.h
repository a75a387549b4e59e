// Rates of a benchmark, and what share of the machine's limit they are. The limits are what
// `machine_limits` measures (/work/shared/peers, bench/compare.py keeps its figures too): a program
// that prints, for each number of threads,
//   {"read_GBps": {"1t": 29.9, "2t": 32.8}, "fp32_GFLOPS": {"1t": ...}, "int8_GOPS": {"1t": ...}}
// Write that to a file in the same quiet minutes and name it in MLXR_BENCH_LIMITS; without it, or
// for a number of threads that it lacks, there are no shares. A share of read_GBps above 1 means
// that the data came from a cache.
#pragma once

#include <benchmark/benchmark.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <string>

namespace mlxr::bench {

enum class Limit { kRead, kFp32, kInt8 };

inline const nlohmann::json& measured_limits() {
  static const nlohmann::json limits = [] {
    const char* path = std::getenv("MLXR_BENCH_LIMITS");
    if (path == nullptr) return nlohmann::json::object();
    std::ifstream file(path);
    auto parsed = nlohmann::json::parse(file, nullptr, false);
    if (!parsed.is_object()) {
      throw std::runtime_error(std::string("MLXR_BENCH_LIMITS names ") + path +
                               ", which is not the JSON that machine_limits prints");
    }
    return parsed;
  }();
  return limits;
}

// In the unit of its name, as of `threads` threads.
inline std::optional<double> limit_of(Limit limit, int threads) {
  constexpr const char* kNames[] = {"read_GBps", "fp32_GFLOPS", "int8_GOPS"};
  const nlohmann::json& all = measured_limits();
  const auto kind = all.find(kNames[static_cast<int>(limit)]);
  if (kind == all.end()) return std::nullopt;
  const auto value = kind->find(std::to_string(threads) + "t");
  if (value == kind->end()) return std::nullopt;
  return value->get<double>();
}

// After the loop: `amount` bytes or operations an iteration, as "GB/s" or "GOP/s", and their share.
inline void count_rate(benchmark::State& state, double amount, Limit limit, int threads = 1) {
  using benchmark::Counter;
  const char* name = limit == Limit::kRead ? "GB/s" : "GOP/s";
  const double total = amount * 1e-9 * static_cast<double>(state.iterations());
  state.counters[name] = Counter(total, Counter::kIsRate);
  if (const auto most = limit_of(limit, threads)) {
    state.counters[std::string(name) + " share"] = Counter(total / *most, Counter::kIsRate);
  }
}

}  // namespace mlxr::bench
