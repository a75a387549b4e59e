#include "core/runtime/model.h"

#include <algorithm>
#include <chrono>
#include <fstream>

#include "core/base/error.h"
#include "core/kernels/cpu/matmul.h"
#include "core/runtime/model_files.h"

namespace mlxr {
namespace fs = std::filesystem;

const char* to_string(ModelFormat format) {
  switch (format) {
    case ModelFormat::kGguf:
      return "gguf";
    case ModelFormat::kSafetensors:
      return "safetensors";
    case ModelFormat::kMlx:
      return "mlx";
  }
  return "";
}

void WeightTally::add(const WeightView& view) {
  parameters += view.elements();
  bytes_by_format[format_name(view)] += view.total_bytes();
}

void WeightTally::fill(ModelFacts& facts) const {
  facts.parameters = parameters;
  int64_t most = 0;
  for (const auto& [name, bytes] : bytes_by_format) {
    facts.weight_bytes += bytes;
    if (bytes > most) {
      most = bytes;
      facts.quantization = name;
    }
  }
}

void add_known_stop_tokens(const Tokenizer& tokenizer, std::vector<int32_t>& stop_tokens) {
  for (const char* text : {"<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>",
                           "<|endoftext|>", "<end_of_turn>", "<|end|>", "<|eot|>", "</s>"}) {
    const auto id = tokenizer.token_id(text);
    if (id && tokenizer.is_special(*id)) stop_tokens.push_back(*id);
  }
  std::sort(stop_tokens.begin(), stop_tokens.end());
  stop_tokens.erase(std::unique(stop_tokens.begin(), stop_tokens.end()), stop_tokens.end());
}

bool is_model_path(const fs::path& path) {
  std::error_code error;
  if (fs::is_regular_file(path, error)) return path.extension() == ".gguf";
  if (!fs::is_regular_file(path / "config.json", error)) return false;
  for (const auto& entry : fs::directory_iterator(path, error)) {
    if (entry.path().extension() == ".safetensors") return true;
  }
  return false;
}

namespace {

void check_facts(OpenedModel& opened, const fs::path& path) {
  check_spec(opened.spec, path.string());
  opened.facts.context_length = opened.spec.context;
  opened.facts.vocab_size = opened.spec.vocab;
  opened.facts.hidden_size = opened.spec.hidden;
  opened.facts.layers = opened.spec.layers;
  opened.facts.encoder = opened.spec.encoder;
}

void load_weights(Model& model, const OpenedModel& opened) {
  if (opened.spec.encoder) {
    model.encoder = load_encoder(opened.spec, opened.names, *opened.source);
  } else {
    model.weights = load_decoder(opened.spec, opened.names, *opened.source);
  }
}

void repack(Model& model, ThreadPool& threads) {
  const auto begin = std::chrono::steady_clock::now();
  const auto after_layer = [&model] {
    for (const auto& file : model.files) file->release_pages();
  };
  if (model.encoder) {
    PackedEncoder packed = pack_encoder(*model.encoder, threads, after_layer);
    model.encoder = std::move(packed.weights);
    model.repacked_bytes = packed.bytes;
  } else {
    PackedDecoder packed = pack_decoder(*model.weights, threads, after_layer);
    model.weights = std::move(packed.weights);
    model.repacked_bytes = packed.bytes;
  }
  model.repack_seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// The vocabulary's rows for "yes" and "no", or those that the file has for this alone. Before they
// are interleaved.
YesNoHead yes_no_head(const OpenedModel& opened, const DecoderWeights& weights) {
  const auto hidden = static_cast<size_t>(opened.spec.hidden);
  YesNoHead head{std::vector<float>(hidden), std::vector<float>(hidden), opened.rerank_prompt};
  if (head.prompt.empty()) head.prompt = default_rerank_prompt();
  const auto own = opened.source->weight("cls.output");
  if (own && own->rows() == 2 && own->columns() == opened.spec.hidden) {
    dequantize_row(*own, 0, head.yes.data());
    dequantize_row(*own, 1, head.no.data());
    return head;
  }
  const auto yes = opened.tokenizer ? opened.tokenizer->token_id("yes") : std::nullopt;
  const auto no = opened.tokenizer ? opened.tokenizer->token_id("no") : std::nullopt;
  if (!yes || !no) {
    throw Error(ErrorCode::kUnsupported,
                opened.source->where() +
                    " is to rank documents, but its vocabulary has no tokens \"yes\" and \"no\"");
  }
  cpu::decode_row(weights.output.weight.ref, *yes, head.yes.data());
  cpu::decode_row(weights.output.weight.ref, *no, head.no.data());
  return head;
}

}  // namespace

OpenedModel open_model(const fs::path& path) {
  std::error_code error;
  const bool folder = fs::is_directory(path, error);
  if (!folder && !fs::exists(path, error)) {
    throw Error(ErrorCode::kNotFound, "there is no model at " + path.string());
  }
  OpenedModel opened = folder ? open_folder_model(path) : open_gguf_model(path);
  opened.path = path;
  opened.facts.kv_layers = opened.spec.kv_layers();
  opened.facts.kv_heads = opened.spec.kv_heads;
  opened.facts.head_dim = opened.spec.head_dim;
  opened.facts.window_layers = opened.spec.window_layers();
  opened.facts.window = opened.spec.widest_window();
  check_facts(opened, path);
  return opened;
}

void check_intact(const Model& model) {
  for (const auto& file : model.files) file->check_intact();
}

void check_can_answer(const Model& model) {
  if (!model.spec.encoder) return;
  throw Error(
      ErrorCode::kInvalidArgument,
      "this model is an encoder: it makes embeddings (/v1/embeddings, /api/embed) and cannot "
      "answer; choose another model for that");
}

Pooling embedding_pooling(const Model& model) {
  const auto stated = model.facts.pooling;
  if (stated && *stated != Pooling::kRank) return *stated;
  if (!model.encoder) return Pooling::kLast;
  return stated ? Pooling::kCls : Pooling::kMean;
}

std::shared_ptr<const Model> load_model(const fs::path& path, const ModelLoadOptions& options) {
  return load_model(open_model(path), options);
}

std::shared_ptr<const Model> load_model(OpenedModel opened, const ModelLoadOptions& options) {
  if (options.require_tokenizer) opened.read_text(opened);
  if (opened.tokenizer && opened.tokenizer->vocab_size() > opened.spec.vocab) {
    throw Error(ErrorCode::kCorruptFile,
                opened.path.string() + " has a tokenizer of " +
                    std::to_string(opened.tokenizer->vocab_size()) + " tokens and a model of " +
                    std::to_string(opened.spec.vocab) + "; they do not belong together");
  }
  auto model = std::make_shared<Model>();
  model->path = opened.path;
  model->files = opened.source->files();
  load_weights(*model, opened);
  if (options.pooling) opened.facts.pooling = options.pooling;
  if (opened.facts.pooling == Pooling::kRank && !opened.spec.encoder) {
    model->yes_no = yes_no_head(opened, *model->weights);
  }
  if (options.repack) repack(*model, *options.repack);
  model->facts = std::move(opened.facts);
  model->spec = std::move(opened.spec);
  model->tokenizer = std::move(opened.tokenizer);
  model->chat_template = std::move(opened.chat_template);
  model->stop_tokens = std::move(opened.stop_tokens);
  if (model->tokenizer) {
    model->constraints = std::make_shared<ConstraintCompiler>(model->tokenizer, model->stop_tokens);
  }
  model->default_sampling = opened.default_sampling;
  check_intact(*model);
  return model;
}

ModelFacts read_model_facts(const fs::path& path) { return open_model(path).facts; }

}  // namespace mlxr
