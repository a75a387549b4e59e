// A model in one GGUF file: metadata to specification, vocabulary and template.
#include <array>

#include "core/base/error.h"
#include "core/formats/gguf_reader.h"
#include "core/runtime/model_files.h"

namespace mlxr {
namespace {

std::vector<int32_t> to_int32(const std::vector<int64_t>& values) {
  return {values.begin(), values.end()};
}

template <class T>
const std::vector<T>* array_of(const GgufFile& file, const std::string& key) {
  const GgufArray* array = file.array(key);
  if (array == nullptr) return nullptr;
  const auto* values = std::get_if<std::vector<T>>(array);
  if (values == nullptr) {
    throw Error(ErrorCode::kCorruptFile,
                file.path().string() + " has metadata \"" + key + "\" of the wrong type");
  }
  return values;
}

std::optional<int32_t> token(const GgufFile& file, const std::string& which, size_t vocab) {
  const auto id = file.integer("tokenizer.ggml." + which + "_token_id");
  if (!id || *id < 0 || static_cast<size_t>(*id) >= vocab) return std::nullopt;
  return static_cast<int32_t>(*id);
}

std::optional<int32_t> first_of(std::optional<int32_t> one, std::optional<int32_t> other) {
  return one ? one : other;
}

// Old files leave add_bos_token out where their pre-tokenizer implies it, as llama.cpp takes it.
bool adds_bos_unasked(const std::string& pre) {
  for (const char* name : {"llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral",
                           "midm-2.0", "lfm2", "tekken"}) {
    if (pre == name) return true;
  }
  return false;
}

GgufVocab read_vocab(const GgufFile& file) {
  GgufVocab vocab;
  const auto* tokens = array_of<std::string>(file, "tokenizer.ggml.tokens");
  const auto model = file.text("tokenizer.ggml.model");
  if (tokens == nullptr || !model) {
    throw Error(ErrorCode::kCorruptFile,
                file.path().string() + " carries no tokenizer (tokenizer.ggml.tokens is missing)");
  }
  vocab.model = *model;
  vocab.pre = file.text("tokenizer.ggml.pre").value_or("default");
  vocab.tokens = *tokens;
  if (const auto* scores = array_of<double>(file, "tokenizer.ggml.scores")) {
    vocab.scores.assign(scores->begin(), scores->end());
  }
  if (const auto* types = array_of<int64_t>(file, "tokenizer.ggml.token_type")) {
    vocab.token_types = to_int32(*types);
  }
  if (const auto* merges = array_of<std::string>(file, "tokenizer.ggml.merges")) {
    vocab.merges = *merges;
  }
  vocab.bos = token(file, "bos", tokens->size());
  vocab.eos = token(file, "eos", tokens->size());
  vocab.unk = token(file, "unknown", tokens->size());
  vocab.pad = token(file, "padding", tokens->size());
  const bool word_pieces = vocab.model == "bert";
  if (word_pieces) {  // every text stands between these
    vocab.bos = first_of(token(file, "cls", tokens->size()), vocab.bos);
    vocab.eos = first_of(token(file, "seperator", tokens->size()), vocab.eos);  // spelled so
  }
  const bool sentencepiece = vocab.model == "llama";
  vocab.add_bos = file.boolean("tokenizer.ggml.add_bos_token")
                      .value_or(sentencepiece || word_pieces || adds_bos_unasked(vocab.pre));
  vocab.add_eos = file.boolean("tokenizer.ggml.add_eos_token").value_or(word_pieces);
  vocab.add_space_prefix = file.boolean("tokenizer.ggml.add_space_prefix").value_or(sentencepiece);
  return vocab;
}

void read_text(const GgufFile& file, OpenedModel& out) {
  const GgufVocab vocab = read_vocab(file);
  out.tokenizer = Tokenizer::from_gguf(vocab);
  for (const char* which : {"eos", "eot", "eom"}) {
    if (const auto id = token(file, which, vocab.tokens.size())) out.stop_tokens.push_back(*id);
  }
  add_known_stop_tokens(*out.tokenizer, out.stop_tokens);
  const auto text_of = [&](const std::optional<int32_t>& id) {
    return id ? vocab.tokens[static_cast<size_t>(*id)] : std::string();
  };
  if (const auto source = file.text("tokenizer.chat_template")) {
    out.chat_template =
        std::make_shared<ChatTemplate>(*source, text_of(vocab.bos), text_of(vocab.eos));
  }
}

SamplingParams read_sampling(const GgufFile& file) {
  SamplingParams params;
  const auto read = [&](const char* key, float& value) {
    if (const auto number = file.number(std::string("general.sampling.") + key)) {
      value = static_cast<float>(*number);
    }
  };
  read("temp", params.temperature);
  read("top_p", params.top_p);
  read("min_p", params.min_p);
  if (const auto k = file.integer("general.sampling.top_k"))
    params.top_k = static_cast<int32_t>(*k);
  return params;
}

std::optional<Pooling> read_pooling(const GgufFile& file, const std::string& architecture) {
  constexpr std::array kTypes{Pooling::kMean, Pooling::kCls, Pooling::kLast, Pooling::kRank};
  const int64_t type = file.integer(architecture + ".pooling_type").value_or(0);  // 0: none
  if (type == 0) return std::nullopt;
  if (type < 0 || type > static_cast<int64_t>(kTypes.size())) {
    throw Error(ErrorCode::kUnsupported, file.path().string() + " pools states by the type " +
                                             std::to_string(type) +
                                             "; this build knows 1 (mean), 2 (cls), 3 (last) and 4 "
                                             "(rank)");
  }
  return kTypes[static_cast<size_t>(type - 1)];
}

}  // namespace

OpenedModel open_gguf_model(const std::filesystem::path& path) {
  const auto file = GgufFile::open(path);
  const auto architecture = file->text("general.architecture");
  if (!architecture) {
    throw Error(
        ErrorCode::kCorruptFile,
        path.string() + " does not name its architecture (general.architecture is missing)");
  }
  const Family& family = family_of_gguf(*architecture, path.string());
  OpenedModel out;
  out.spec = family.from_gguf(*file);
  out.names = family.gguf_names;
  out.facts.format = ModelFormat::kGguf;
  out.facts.architecture = *architecture;
  WeightTally tally;
  for (const WeightView& view : file->tensors()) tally.add(view);
  tally.fill(out.facts);
  out.default_sampling = read_sampling(*file);
  out.facts.pooling = read_pooling(*file, *architecture);
  out.rerank_prompt = file->text("tokenizer.chat_template.rerank").value_or("");
  out.read_text = [file](OpenedModel& itself) { read_text(*file, itself); };
  out.source = gguf_source(file);
  return out;
}

}  // namespace mlxr
