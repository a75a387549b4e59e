// The C++ face of the Rust text library's tokenizers.
#include "core/runtime/tokenizer/tokenizer.h"

#include <utility>

#include "core/base/error.h"
#include "core/runtime/text-ffi/text_ffi.h"

namespace mlxr {

namespace {

using text_ffi::check;
using text_ffi::span_of;

struct TokenizerDeleter {
  void operator()(mlxr_tokenizer* tokenizer) const { mlxr_tokenizer_free(tokenizer); }
};
using TokenizerHandle = std::unique_ptr<mlxr_tokenizer, TokenizerDeleter>;

std::vector<mlxr_text_span> spans_of(const std::vector<std::string>& texts) {
  std::vector<mlxr_text_span> spans;
  spans.reserve(texts.size());
  for (const std::string& text : texts) spans.push_back(span_of(text));
  return spans;
}

void check_sizes(const GgufVocab& vocab) {
  const size_t count = vocab.tokens.size();
  const bool scores_fit = vocab.scores.empty() || vocab.scores.size() == count;
  const bool types_fit = vocab.token_types.empty() || vocab.token_types.size() == count;
  if (scores_fit && types_fit) return;
  throw Error(ErrorCode::kCorruptFile,
              "the GGUF vocabulary has " + std::to_string(count) + " tokens but " +
                  std::to_string(vocab.scores.size()) + " scores and " +
                  std::to_string(vocab.token_types.size()) + " token types; get the file again");
}

}  // namespace

struct Tokenizer::Impl {
  TokenizerHandle handle;
  int32_t vocab_size;

  explicit Impl(mlxr_tokenizer* raw) : handle(raw), vocab_size(mlxr_tokenizer_vocab_size(raw)) {}
};

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::~Tokenizer() = default;

std::shared_ptr<const Tokenizer> Tokenizer::from_json(std::string_view json) {
  mlxr_tokenizer* raw = nullptr;
  mlxr_text_buffer error{};
  check(mlxr_tokenizer_from_json(span_of(json), &raw, &error), error);
  return std::shared_ptr<const Tokenizer>(new Tokenizer(std::make_unique<Impl>(raw)));
}

std::shared_ptr<const Tokenizer> Tokenizer::from_gguf(const GgufVocab& vocab) {
  check_sizes(vocab);
  const std::vector<mlxr_text_span> tokens = spans_of(vocab.tokens);
  const std::vector<mlxr_text_span> merges = spans_of(vocab.merges);
  const mlxr_text_vocab raw_vocab{
      .model = span_of(vocab.model),
      .pre = span_of(vocab.pre),
      .tokens = tokens.data(),
      .scores = vocab.scores.empty() ? nullptr : vocab.scores.data(),
      .token_types = vocab.token_types.empty() ? nullptr : vocab.token_types.data(),
      .token_count = tokens.size(),
      .merges = merges.data(),
      .merge_count = merges.size(),
      .bos = vocab.bos.value_or(-1),
      .eos = vocab.eos.value_or(-1),
      .unk = vocab.unk.value_or(-1),
      .add_bos = vocab.add_bos,
      .add_eos = vocab.add_eos,
      .add_space_prefix = vocab.add_space_prefix,
  };
  mlxr_tokenizer* raw = nullptr;
  mlxr_text_buffer error{};
  check(mlxr_tokenizer_from_vocab(&raw_vocab, &raw, &error), error);
  return std::shared_ptr<const Tokenizer>(new Tokenizer(std::make_unique<Impl>(raw)));
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, bool add_special,
                                       bool parse_special) const {
  mlxr_text_ids ids{};
  mlxr_text_buffer error{};
  check(mlxr_tokenizer_encode(impl_->handle.get(), span_of(text), add_special, parse_special, &ids,
                              &error),
        error);
  const std::unique_ptr<mlxr_text_ids, void (*)(mlxr_text_ids*)> owner(
      &ids, [](mlxr_text_ids* owned) { mlxr_text_ids_free(*owned); });
  return {ids.data, ids.data + ids.size};
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special) const {
  mlxr_text_buffer text{};
  mlxr_text_buffer error{};
  check(mlxr_tokenizer_decode(impl_->handle.get(), ids.data(), ids.size(), skip_special, &text,
                              &error),
        error);
  return text_ffi::take(text);
}

std::string Tokenizer::token_bytes(int32_t id) const {
  mlxr_text_buffer bytes{};
  mlxr_text_buffer error{};
  check(mlxr_tokenizer_token_bytes(impl_->handle.get(), id, &bytes, &error), error);
  return text_ffi::take(bytes);
}

std::optional<int32_t> Tokenizer::token_id(std::string_view token) const {
  const int32_t id = mlxr_tokenizer_token_id(impl_->handle.get(), span_of(token));
  return id < 0 ? std::nullopt : std::optional<int32_t>(id);
}

bool Tokenizer::is_special(int32_t id) const {
  return mlxr_tokenizer_is_special(impl_->handle.get(), id) != 0;
}

int32_t Tokenizer::vocab_size() const { return impl_->vocab_size; }

const mlxr_tokenizer* Tokenizer::handle() const { return impl_->handle.get(); }

std::string Tokenizer::stream_push(mlxr_text_stream& stream, int32_t id, bool skip_special) const {
  mlxr_text_buffer text{};
  mlxr_text_buffer error{};
  check(mlxr_tokenizer_stream_push(impl_->handle.get(), &stream, id, skip_special, &text, &error),
        error);
  return text_ffi::take(text);
}

StreamDecoder::StreamDecoder(std::shared_ptr<const Tokenizer> tokenizer, bool skip_special)
    : tokenizer_(std::move(tokenizer)), skip_special_(skip_special) {}

std::string StreamDecoder::push(int32_t id) {
  return tokenizer_->stream_push(stream_, id, skip_special_);
}

std::string StreamDecoder::flush() {
  mlxr_text_buffer text{};
  mlxr_text_buffer error{};
  check(mlxr_tokenizer_stream_end(&stream_, &text, &error), error);
  return text_ffi::take(text);
}

}  // namespace mlxr
