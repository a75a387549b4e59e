// mlx bench: prompt and generation speed of a model in this process, without the daemon. The same
// two tests as llama-bench, with the same option letters and JSON fields, so that figures stand
// side by side: a prompt of random tokens from an empty context, and tokens one at a time from an
// empty context. With --serve it asks a daemon of its own instead, as several clients would.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>

#include "cli/bench/serve_bench.h"
#include "cli/commands/commands.h"
#include "cli/model_argument.h"
#include "cli/text_table.h"
#include "core/base/error.h"
#include "core/runtime/engine.h"

namespace mlxr::cli {
namespace {

using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;
constexpr int kPrefillChunk = 512;

struct Options {
  std::string model;
  std::vector<std::string> adapters;  // paths
  int prompt = 512, generate = 128, depth = 0, sequences = 1, threads = 0, repetitions = 5;
  std::string kv_type = "f16";
  std::string output = "table";
  bool json = false;
  bool no_repack = false;
  bool kernels = false;
  bool serve = false;
  int clients = 8, prefix = 1024, long_prompt = 4096;  // with --serve
};

// One repetition.
struct Timing {
  double seconds = 0;
  KernelTimes kernels;
};

// Tokens are those of one sequence; a speed is that of all together.
struct Measurement {
  int n_prompt = 0, n_gen = 0, n_depth = 0, n_sequences = 1;
  bool adapted = false;
  std::vector<double> seconds;
  KernelTimes kernels;

  void add(const Timing& timing) {
    seconds.push_back(timing.seconds);
    kernels.add(timing.kernels);
  }

  std::vector<double> speeds() const {
    std::vector<double> out;
    for (double s : seconds) out.push_back((n_prompt + n_gen) * n_sequences / s);
    return out;
  }
  std::string name() const {
    const std::string test =
        n_prompt > 0 ? "pp" + std::to_string(n_prompt) : "tg" + std::to_string(n_gen);
    return test + (n_sequences > 1 ? " x" + std::to_string(n_sequences) : "") +
           (n_depth > 0 ? " @ " + std::to_string(n_depth) : "") + (adapted ? " + LoRA" : "");
  }
};

double mean_of(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double deviation_of(const std::vector<double>& values) {
  if (values.size() < 2) return 0;
  const double mean = mean_of(values);
  double squares = 0;
  for (double v : values) squares += (v - mean) * (v - mean);
  return std::sqrt(squares / static_cast<double>(values.size() - 1));
}

class Bench {
 public:
  Bench(std::shared_ptr<const Model> model, const Options& options,
        std::shared_ptr<ThreadPool> threads)
      : engine_(model, engine_options(*model, options), threads),
        vocab_(model->spec.vocab),
        depth_(options.depth),
        sequences_(options.sequences),
        repetitions_(options.repetitions) {}

  // From now on every sequence has these.
  void use(std::vector<ScaledAdapter> adapters) { adapters_ = std::move(adapters); }

  Measurement prompt(int tokens) {
    run_prompt(std::min(tokens, kPrefillChunk), 0);  // pages weights in, fills caches
    Measurement result{.n_prompt = tokens, .n_depth = depth_, .adapted = !adapters_.empty()};
    for (int i = 0; i < repetitions_; ++i) result.add(run_prompt(tokens, depth_));
    return result;
  }

  Measurement generation(int tokens) {
    Measurement result{.n_gen = tokens,
                       .n_depth = depth_,
                       .n_sequences = sequences_,
                       .adapted = !adapters_.empty()};
    std::vector<KvSequence> at_depth;
    for (int i = 0; i < sequences_; ++i) {
      at_depth.push_back(engine_.new_sequence());
      fill(at_depth.back(), random_tokens(depth_));
    }
    run_generation(at_depth, std::min(tokens, 8));
    for (int i = 0; i < repetitions_; ++i) {
      result.add(run_generation(at_depth, tokens));
    }
    return result;
  }

 private:
  std::vector<int32_t> random_tokens(int count) {
    std::uniform_int_distribution<int32_t> any(0, vocab_ - 1);
    std::vector<int32_t> tokens(static_cast<size_t>(count));
    for (int32_t& token : tokens) token = any(random_);
    return tokens;
  }

  // Each generation goes on where the one before ended, so that a deep context is filled once.
  static EngineOptions engine_options(const Model& model, const Options& options) {
    const int generated = options.generate * options.repetitions + 8;
    const int64_t context = options.depth + std::max(options.prompt, generated);
    const KvType type = kv_type_of(options.kv_type).value_or(KvType::kF16);  // checked by CLI11
    const int64_t per_token = int64_t{2} * model.spec.layers * model.spec.kv_heads *
                              cpu::kv_region_bytes(type, model.spec.head_dim, 1);
    return {.context_length = static_cast<int32_t>(context),
            .kv_bytes = (context + 64) * per_token * (options.sequences + 1),
            .kv_type = type};
  }

  void fill(KvSequence& sequence, const std::vector<int32_t>& tokens) {
    using Logits = SequenceSlice::Logits;
    const std::span all(tokens);
    for (size_t from = 0; from < all.size(); from += kPrefillChunk) {
      const size_t length = std::min<size_t>(kPrefillChunk, all.size() - from);
      const bool last = from + length == all.size();
      const SequenceSlice slice{.kv = &sequence,
                                .tokens = all.subspan(from, length),
                                .logits = last ? Logits::kLast : Logits::kNone,
                                .adapters = adapters_};
      engine_.step(std::span(&slice, 1));
    }
  }

  template <class Body>
  Timing timed(const Body& body) {
    const KernelTimes before = engine_.kernel_times();
    const auto start = Clock::now();
    body();
    const std::chrono::duration<double> seconds = Clock::now() - start;
    return {seconds.count(), engine_.kernel_times().since(before)};
  }

  Timing run_prompt(int count, int depth) {
    KvSequence sequence = engine_.new_sequence();
    fill(sequence, random_tokens(depth));
    const std::vector<int32_t> tokens = random_tokens(count);
    return timed([&] { fill(sequence, tokens); });
  }

  Timing run_generation(std::vector<KvSequence>& sequences, int count) {
    const std::vector<int32_t> tokens = random_tokens(count);
    return timed([&] {
      for (int i = 0; i < count; ++i) {
        std::vector<SequenceSlice> slices;
        for (KvSequence& sequence : sequences) {
          slices.push_back(
              {.kv = &sequence, .tokens = std::span(tokens).subspan(i, 1), .adapters = adapters_});
        }
        engine_.step(slices);
      }
    });
  }

  Engine engine_;
  int32_t vocab_;
  int depth_, sequences_, repetitions_;
  std::vector<ScaledAdapter> adapters_;
  std::mt19937 random_{42};  // the same tokens in every run
};

Json kernels_json(const KernelTimes& kernels) {
  Json out = Json::object();
  for (const KernelTimes::Entry& entry : kernels.entries()) {
    out[entry.name] = {{"calls", entry.calls}, {"ns", entry.time.count()}};
  }
  return out;
}

Json to_json(const Measurement& m, const Model& model, const Options& options, int threads) {
  const std::vector<double> speeds = m.speeds();
  std::vector<int64_t> nanoseconds;
  for (double s : m.seconds) nanoseconds.push_back(std::llround(s * 1e9));
  return {{"build_version", MLXR_VERSION},
          {"model", model_argument_name(options.model)},
          {"model_filename", model.path.string()},
          {"model_type", model.facts.architecture + " " + model.facts.quantization},
          {"model_size", model.facts.weight_bytes},
          {"model_n_params", model.facts.parameters},
          {"threads", threads},
          {"n_threads", threads},
          {"n_prompt", m.n_prompt},
          {"n_gen", m.n_gen},
          {"n_depth", m.n_depth},
          {"n_sequences", m.n_sequences},
          {"adapters", m.adapted ? options.adapters : std::vector<std::string>()},
          {"type_k", options.kv_type},
          {"type_v", options.kv_type},
          {"avg_ns", std::llround(mean_of(m.seconds) * 1e9)},
          {"stddev_ns", std::llround(deviation_of(m.seconds) * 1e9)},
          {"avg_ts", mean_of(speeds)},
          {"stddev_ts", deviation_of(speeds)},
          {"samples_ns", nanoseconds},
          {"samples_ts", speeds},
          {"kernels", kernels_json(m.kernels)}};
}

// Of all repetitions: the time of each kernel, and of everything else ("graph").
std::string kernel_table(const Measurement& m) {
  std::vector<KernelTimes::Entry> entries(m.kernels.entries().begin(), m.kernels.entries().end());
  std::ranges::sort(entries, std::greater(), &KernelTimes::Entry::time);
  std::vector<std::vector<std::string>> rows{{m.name(), "CALLS", "MS", "SHARE"}};
  const double all = std::chrono::duration<double>(m.kernels.total()).count();
  for (const KernelTimes::Entry& entry : entries) {
    const double seconds = std::chrono::duration<double>(entry.time).count();
    char ms[32], share[32];
    std::snprintf(ms, sizeof ms, "%.1f", seconds * 1e3);
    std::snprintf(share, sizeof share, "%.1f %%", 100 * seconds / all);
    rows.push_back({entry.name, std::to_string(entry.calls), ms, share});
  }
  return format_table(rows, {1, 2, 3});
}

std::string table(const std::vector<Measurement>& measurements, const Model& model,
                  const std::string& name, int threads) {
  std::vector<std::vector<std::string>> rows{
      {"MODEL", "FORMAT", "SIZE", "PARAMS", "THREADS", "TEST", "TOKENS/S"}};
  for (const Measurement& m : measurements) {
    const std::vector<double> speeds = m.speeds();
    char speed[64];
    std::snprintf(speed, sizeof speed, "%.2f ± %.2f", mean_of(speeds), deviation_of(speeds));
    rows.push_back({name, model.facts.quantization, human_bytes(model.facts.weight_bytes),
                    human_count(model.facts.parameters), std::to_string(threads), m.name(), speed});
  }
  return format_table(rows, {2, 3, 4, 5, 6});
}

int bench_serving(const Invocation& invocation, const Options& options) {
  return serve_bench({.model = model_path(options.model, invocation.daemon.socket),
                      .clients = options.clients,
                      .prompt = options.prompt,
                      .generate = options.generate,
                      .prefix = options.prefix,
                      .long_prompt = options.long_prompt,
                      .threads = options.threads,
                      .kv_type = options.kv_type,
                      .repack = !options.no_repack,
                      .json = options.json || options.output == "json"});
}

int bench(const Invocation& invocation, const Options& options) {
  if (options.prompt == 0 && options.generate == 0) {
    throw Error(ErrorCode::kInvalidArgument, "-p 0 and -n 0 leave nothing to measure");
  }
  const std::filesystem::path path = model_path(options.model, invocation.daemon.socket);
  const auto threads = std::make_shared<ThreadPool>(options.threads);
  const auto model = load_model(
      path, {.repack = options.no_repack ? nullptr : threads, .require_tokenizer = false});
  std::vector<ScaledAdapter> adapters;
  for (const std::string& adapter : options.adapters) {
    adapters.push_back({load_adapter(adapter, *model, *threads), 1});
  }
  Bench bench(model, options, threads);
  std::vector<Measurement> measurements;
  const auto measure = [&] {
    if (options.prompt > 0) measurements.push_back(bench.prompt(options.prompt));
    if (options.generate > 0) measurements.push_back(bench.generation(options.generate));
  };
  measure();
  if (!adapters.empty()) {
    bench.use(std::move(adapters));
    measure();
  }

  if (options.json || options.output == "json") {
    Json rows = Json::array();
    for (const Measurement& m : measurements) {
      rows.push_back(to_json(m, *model, options, threads->size()));
    }
    std::printf("%s\n", rows.dump(2).c_str());
  } else {
    const std::string name = model_argument_name(options.model);
    std::fputs(table(measurements, *model, name, threads->size()).c_str(), stdout);
    for (const Measurement& m : measurements) {
      if (options.kernels) std::printf("\n%s", kernel_table(m).c_str());
    }
  }
  return 0;
}

}  // namespace

void add_bench(CLI::App& app, Invocation& invocation) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("bench", "Measure prompt and generation speed");
  command->add_option("-m,--model", options->model, "A model's name, .gguf file or folder")
      ->required()
      ->option_text("MODEL");
  command
      ->add_option("--adapter", options->adapters,
                   "Measure again with this LoRA adapter; several are added up")
      ->option_text("PATH")
      ->allow_extra_args(false);
  const auto number = [&](const char* flags, int& value, const char* help, int lowest) {
    command->add_option(flags, value, help)
        ->check(CLI::Range(lowest, 1 << 24))
        ->option_text("N (" + std::to_string(value) + ")");
  };
  number("-p,--n-prompt", options->prompt, "Tokens of the prompt; 0 skips the test", 0);
  number("-n,--n-gen", options->generate, "Tokens generated; 0 skips the test", 0);
  number("-d,--n-depth", options->depth, "Tokens that the context holds before a test", 0);
  number("--sequences", options->sequences, "Sequences that generate together", 1);
  number("-t,--threads", options->threads, "Threads; 0 is one for each physical core", 0);
  number("-r,--repetitions", options->repetitions, "Times that each test is run", 1);
  std::vector<std::string> kv_types;
  for (const KvTypeName& type : kKvTypes) kv_types.emplace_back(type.name);
  command->add_option("--kv-type", options->kv_type, "Format of keys and values, as kv_type")
      ->check(CLI::IsMember(kv_types))
      ->option_text("TYPE (f16)");
  command->add_option("-o,--output", options->output, "table or json")
      ->check(CLI::IsMember({"table", "json"}))
      ->option_text("FORMAT (table)");
  command->add_flag("--json", options->json, "The same as -o json");
  command->add_flag("--no-repack", options->no_repack,
                    "Use weights where they lie in the file instead of interleaving them");
  command->add_flag("--kernels", options->kernels,
                    "Also show where the time went, kernel by kernel");
  CLI::Option* serve = command->add_flag(
      "--serve", options->serve,
      "Ask a daemon of its own as several clients would: -p 128 -n 64 unless given");
  for (CLI::Option* other : {command->get_option("--n-depth"), command->get_option("--sequences"),
                             command->get_option("--repetitions"), command->get_option("--kernels"),
                             command->get_option("--adapter")}) {
    serve->excludes(other);
  }
  const auto with_serve = [&](const char* flag, int& value, const char* help) {
    number(flag, value, help, 1);
    command->get_option(flag)->needs(serve);
  };
  with_serve("--clients", options->clients, "With --serve: clients at once");
  with_serve("--prefix", options->prefix, "With --serve: tokens that prompts share in some tests");
  with_serve("--long-prompt", options->long_prompt,
             "With --serve: tokens of a prompt that comes among running answers");
  command->callback([&invocation, options, command] {
    if (options->serve) {
      if (command->count("--n-prompt") == 0) options->prompt = 128;
      if (command->count("--n-gen") == 0) options->generate = 64;
      if (options->prompt == 0 || options->generate == 0) {
        throw Error(ErrorCode::kInvalidArgument, "--serve needs -p and -n of at least 1");
      }
    }
    invocation.chosen = [&invocation, options] {
      return options->serve ? bench_serving(invocation, *options) : bench(invocation, *options);
    };
  });
}

}  // namespace mlxr::cli
