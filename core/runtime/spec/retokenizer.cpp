#include "core/runtime/spec/retokenizer.h"

#include <algorithm>
#include <string_view>
#include <utility>

namespace mlxr {
namespace {

using Ids = std::vector<int32_t>;

// Tokens of the history that are tokenised again with what was drafted, to see how they join.
constexpr size_t kContext = 8;
// Open tokens of a text whose words do not begin with a space.
constexpr size_t kMostOpen = 8;
// Tokens that a text takes in at once: a long prompt must not hold up a step.
constexpr size_t kMostAtOnce = 4096;

std::string bytes_of(const Tokenizer& tokenizer, std::span<const int32_t> tokens) {
  std::string bytes;
  for (const int32_t token : tokens) bytes += tokenizer.token_bytes(token);
  return bytes;
}

struct Encoded {
  Ids tokens;
  bool exact = false;  // their bytes are the text's
};

// Tokens for text that follows other text. A vocabulary may put a space before all that it encodes:
// it does so in place of the text's own, or before a line break, which is dropped.
Encoded encode_inside(const Tokenizer& tokenizer, const std::string& text) {
  Ids plain = tokenizer.encode(text, false, false);
  if (bytes_of(tokenizer, plain) == text) return {std::move(plain), true};
  if (text.starts_with(' ')) {
    Ids tokens = tokenizer.encode(std::string_view(text).substr(1), false, false);
    if (bytes_of(tokenizer, tokens) == text) return {std::move(tokens), true};
  }
  std::string line = "\n";
  line += text;
  const Ids broken = tokenizer.encode(line, false, false);
  const auto line_break = std::ranges::find_if(
      broken, [&](int32_t token) { return tokenizer.token_bytes(token).ends_with('\n'); });
  if (line_break != broken.end()) {
    Ids tokens(line_break + 1, broken.end());
    if (bytes_of(tokenizer, tokens) == text) return {std::move(tokens), true};
  }
  return {std::move(plain), false};
}

// The control token that is spelled as this one.
std::optional<int32_t> counterpart(const Tokenizer& from, int32_t token, const Tokenizer& to) {
  const auto same = to.token_id(from.token_bytes(token));
  return same && to.is_special(*same) ? same : std::nullopt;
}

// Bytes at the end that begin a character and do not complete it.
size_t incomplete_end(std::string_view text) {
  for (size_t back = 1; back <= std::min<size_t>(3, text.size()); ++back) {
    const auto byte = static_cast<unsigned char>(text[text.size() - back]);
    if ((byte & 0xc0) == 0x80) continue;  // inside a character
    const size_t size = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    return size > back ? back : 0;
  }
  return 0;
}

// No vocabulary joins what comes before to such a token.
bool begins_word(std::string_view bytes) {
  constexpr std::string_view kBlank = " \t\r\n";
  return bytes.size() > 1 && bytes[0] == ' ' && kBlank.find(bytes[1]) == kBlank.npos;
}

bool begins_character(std::string_view bytes) {
  return !bytes.empty() && (static_cast<unsigned char>(bytes[0]) & 0xc0) != 0x80;
}

}  // namespace

std::optional<std::string> vocabulary_difference(const Tokenizer& model, const Tokenizer& draft) {
  if (&model == &draft) return std::nullopt;
  const int32_t size = model.vocab_size();
  if (draft.vocab_size() != size) {
    return std::to_string(draft.vocab_size()) + " tokens, not " + std::to_string(size);
  }
  for (int32_t token = 0; token < size; ++token) {
    if (model.token_bytes(token) != draft.token_bytes(token)) {
      return "token " + std::to_string(token) + " differs";
    }
  }
  return std::nullopt;
}

Retokenizer::Retokenizer(std::shared_ptr<const Tokenizer> model,
                         std::shared_ptr<const Tokenizer> draft)
    : model_(std::move(model)), draft_(std::move(draft)) {
  const Ids text = draft_->encode("a", false, false), whole = draft_->encode("a", true, false);
  const auto begin = std::search(whole.begin(), whole.end(), text.begin(), text.end());
  if (begin != whole.end()) before_texts_.assign(whole.begin(), begin);
}

Ids Retokenizer::proposal(std::span<const int32_t> history, std::span<const int32_t> drafted,
                          int32_t most) const {
  const auto end = std::ranges::find_if(drafted, [this](int32_t token) { return ends(token); });
  std::string text = bytes_of(*draft_, {drafted.begin(), end});
  const size_t incomplete = incomplete_end(text);
  text.erase(text.size() - incomplete);
  Ids tokens;
  if (!text.empty()) {
    tokens = following(history, text);
    if (tokens.empty()) return {};
  }
  if (end != drafted.end() && incomplete == 0) {
    const auto control = counterpart(*draft_, *end, *model_);
    if (control) tokens.push_back(*control);
  }
  if (tokens.size() > static_cast<size_t>(most)) tokens.resize(static_cast<size_t>(most));
  return tokens;
}

// Tokenises the end of the history with the text behind it. Less of the history is tried where it
// has other tokens than its text would be given: those that were drawn at random, or a part of a
// word at the beginning.
Ids Retokenizer::following(std::span<const int32_t> history, const std::string& text) const {
  const auto last = history.last(std::min(history.size(), kContext));
  const auto control = std::find_if(last.rbegin(), last.rend(),
                                    [this](int32_t token) { return model_->is_special(token); });
  auto count = static_cast<size_t>(control - last.rbegin());
  while (true) {
    const auto known = history.last(count);
    const Encoded both = encode_inside(*model_, bytes_of(*model_, known) + text);
    const auto rest = std::ranges::mismatch(known, both.tokens);
    if (both.exact && rest.in1 == known.end()) return {rest.in2, both.tokens.end()};
    if (count <= 1) return {};
    count /= 2;
  }
}

RetokenizedText::RetokenizedText(std::shared_ptr<const Retokenizer> retokenizer)
    : retokenizer_(std::move(retokenizer)),
      decoder_(retokenizer_->model(), false),
      tokens_(retokenizer_->before_texts().begin(), retokenizer_->before_texts().end()),
      open_(tokens_.size()) {}

void RetokenizedText::update(std::span<const int32_t> history) {
  const size_t end = std::min(history.size(), known_ + kMostAtOnce);
  if (known_ < end) {
    std::string text;
    for (; known_ < end; ++known_) take_in(history[known_], text);
    append(text);
  }
  whole_ = known_ == history.size() && StreamDecoder(decoder_).flush().empty();
}

// Collects text, and appends it where a control token ends it. One that the draft does not have is
// text to it; but before all text, where the draft has a beginning of its own, it is left out.
void RetokenizedText::take_in(int32_t token, std::string& text) {
  const Tokenizer& model = *retokenizer_->model();
  if (!model.is_special(token)) {
    text += decoder_.push(token);
    return;
  }
  text += decoder_.flush();
  const auto same = counterpart(model, token, *retokenizer_->draft());
  if (!same) {
    if (known_ > 0) text += model.token_bytes(token);
    return;
  }
  append(text);
  const bool is_there = known_ == 0 && !tokens_.empty() && tokens_.back() == *same;
  if (!is_there) tokens_.push_back(*same);
  open_ = tokens_.size();
  open_text_.clear();
  fresh_ = true;
}

void RetokenizedText::append(std::string& text) {
  if (text.empty()) return;
  const Tokenizer& draft = *retokenizer_->draft();
  open_text_ += std::exchange(text, {});
  const Ids tokens =
      fresh_ ? draft.encode(open_text_, false, false) : encode_inside(draft, open_text_).tokens;
  tokens_.resize(open_);
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
  settle();
}

// Leaves the last word open, or the last few tokens.
void RetokenizedText::settle() {
  const Tokenizer& draft = *retokenizer_->draft();
  size_t first = tokens_.size();
  std::string rest;
  for (bool found = false; first > open_ && !found;) {
    const std::string bytes = draft.token_bytes(tokens_[--first]);
    const bool enough = tokens_.size() - first >= kMostOpen;
    found = begins_word(bytes) || (enough && begins_character(bytes));
    rest.insert(0, bytes);
  }
  if (first == open_) return;
  // A draft that reads other bytes than there are (it normalises them) goes on with new text.
  if (!open_text_.ends_with(rest)) rest.clear();
  open_ = rest.empty() ? tokens_.size() : first;
  open_text_ = std::move(rest);
  fresh_ = false;
}

size_t RetokenizedText::settled() const {
  return std::min(open_, std::max<size_t>(tokens_.size(), 1) - 1);
}

}  // namespace mlxr
