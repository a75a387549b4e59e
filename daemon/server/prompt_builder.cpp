#include "daemon/server/prompt_builder.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <random>

#include "core/base/error.h"

namespace mlxr {
namespace {

using Json = nlohmann::ordered_json;

// What the tokenizer puts before a text when it may add special tokens.
std::vector<int32_t> find_bos(const Tokenizer& tokenizer) {
  const std::vector<int32_t> with = tokenizer.encode("a", true, false);
  const std::vector<int32_t> without = tokenizer.encode("a", false, false);
  const bool added = with.size() > without.size() && !with.empty() &&
                     (without.empty() || with.front() != without.front()) &&
                     tokenizer.is_special(with.front());
  return added ? std::vector<int32_t>{with.front()} : std::vector<int32_t>{};
}

std::vector<std::string> find_control_texts(const Tokenizer& tokenizer) {
  std::vector<std::string> texts;
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    if (tokenizer.is_special(id)) {
      std::string text = tokenizer.token_bytes(id);
      if (!text.empty()) {
        texts.push_back(std::move(text));
      }
    }
  }
  std::sort(texts.begin(), texts.end(), [](const std::string& a, const std::string& b) {
    return a.size() != b.size() ? a.size() > b.size() : a < b;
  });
  return texts;
}

void append(std::vector<int32_t>& ids, const std::vector<int32_t>& more) {
  ids.insert(ids.end(), more.begin(), more.end());
}

// Nobody can guess it, and no template changes it: it is plain ASCII.
std::string random_mark(char last) {
  std::random_device random;
  std::array<char, 64> mark{};
  std::snprintf(mark.data(), mark.size(), "MLXR%08x%08x%08x%08x%c", random(), random(), random(),
                random(), last);
  return mark.data();
}

// The rendered text up to the mark, which the template found behind the content of the last
// message. Templates may trim what is before it.
std::string up_to_mark(const std::string& text, const std::string& mark,
                       const std::string& content) {
  const std::string before = text.substr(0, text.rfind(mark));
  const size_t begin = std::min(content.find_first_not_of(" \t\r\n"), content.size());
  if (before.size() == text.size() || !before.ends_with(content.substr(begin))) {
    throw Error(ErrorCode::kInvalidArgument,
                "the answer cannot go on from the last message: this model's chat template does "
                "not write an assistant's message as it is; leave that message out");
  }
  return before;
}

// A template that writes BOS itself must not get a second one.
std::vector<int32_t> after_bos(const std::vector<int32_t>& bos, std::vector<int32_t> ids) {
  if (!bos.empty() && (ids.empty() || ids.front() != bos.front())) {
    ids.insert(ids.begin(), bos.front());
  }
  return ids;
}

}  // namespace

const std::shared_ptr<const Tokenizer>& tokenizer_of(const Model& model) {
  if (!model.tokenizer) {
    throw Error(ErrorCode::kUnsupported,
                "the model " + model.path.string() + " has no tokenizer; add its tokenizer.json");
  }
  return model.tokenizer;
}

std::shared_ptr<const PromptBuilder::TokenizerFacts> PromptBuilder::facts_of(
    const std::shared_ptr<const Tokenizer>& tokenizer) {
  const std::lock_guard lock(mutex_);
  std::erase_if(facts_, [](const auto& entry) { return entry.second->owner.expired(); });
  auto& facts = facts_[tokenizer.get()];
  if (!facts) {
    facts = std::make_shared<TokenizerFacts>(
        TokenizerFacts{tokenizer, find_control_texts(*tokenizer), find_bos(*tokenizer)});
  }
  return facts;
}

std::vector<int32_t> PromptBuilder::tokens_of(const Model& model, const Json& messages,
                                              ChatRenderOptions options, bool open) {
  const auto& tokenizer = tokenizer_of(model);
  if (!model.chat_template) {
    throw Error(ErrorCode::kInvalidArgument,
                "this model has no chat template; use /v1/completions, or set chat_template in its "
                "configs/models file");
  }
  const auto facts = facts_of(tokenizer);
  ControlTextGuard guard(facts->control_texts);
  options.tools = guard.hide(options.tools);
  options.extra = guard.hide(options.extra);
  Json hidden = guard.hide(messages);
  std::string text;
  if (open) {
    const std::string content = hidden.back()["content"].get<std::string>();
    const std::string mark = random_mark('E');
    hidden.back()["content"] = content + mark;
    text = up_to_mark(model.chat_template->render(hidden, options), mark, content);
  } else {
    text = model.chat_template->render(hidden, options);
  }
  std::vector<int32_t> ids;
  for (const ControlTextGuard::Piece& piece : guard.split(text)) {
    append(ids, tokenizer->encode(piece.text, false, !piece.typed));
  }
  return after_bos(facts->bos, std::move(ids));
}

std::vector<int32_t> PromptBuilder::chat(const Model& model, const Json& messages,
                                         const Json& tools, const Json& template_variables,
                                         PromptEnd end) {
  check_can_answer(model);
  ChatRenderOptions options{.add_generation_prompt = end == PromptEnd::kNewTurn,
                            .tools = tools,
                            .extra = template_variables};
  if (end != PromptEnd::kLastMessage || messages.back()["content"] != "") {
    return tokens_of(model, messages, std::move(options), end == PromptEnd::kLastMessage);
  }
  // Where nothing was said yet, the answer is a new turn.
  options.add_generation_prompt = true;
  Json others = messages;
  others.erase(others.size() - 1);
  return tokens_of(model, others, std::move(options));
}

PromptOpening PromptBuilder::opening(const Model& model, std::span<const int32_t> prompt) {
  const std::vector<int32_t>& bos = facts_of(tokenizer_of(model))->bos;
  const bool begins = !bos.empty() && !prompt.empty() && prompt.front() == bos.front();
  return {.bos = begins ? 1 : 0, .system = begins ? 1 : 0};
}

// What the prompt has in common with one of its system messages alone. Templates that want more
// than those get an answer, of which only the first mark may be the same as a question's.
PromptOpening PromptBuilder::opening(const Model& model, std::span<const int32_t> prompt,
                                     const Json& messages, const Json& tools,
                                     const Json& template_variables) {
  PromptOpening opening = this->opening(model, prompt);
  Json system = Json::array();
  for (const Json& message : messages) {
    if (message.value("role", "") != "system") {
      break;
    }
    system.push_back(message);
  }
  const ChatRenderOptions options{
      .add_generation_prompt = false, .tools = tools, .extra = template_variables};
  auto common = common_tokens(model, prompt, system, options);
  if (!common) {
    system.push_back({{"role", "assistant"}, {"content", ""}});
    common = common_tokens(model, prompt, system, options);
  }
  opening.system = std::max(opening.bos, common.value_or(0));
  return opening;
}

// Nothing where the template refuses these messages.
std::optional<int32_t> PromptBuilder::common_tokens(const Model& model,
                                                    std::span<const int32_t> prompt,
                                                    const Json& messages,
                                                    const ChatRenderOptions& options) {
  try {
    const std::vector<int32_t> tokens = tokens_of(model, messages, options);
    return static_cast<int32_t>(std::ranges::mismatch(prompt, tokens).in1 - prompt.begin());
  } catch (const Error&) {
    return std::nullopt;
  }
}

std::vector<int32_t> PromptBuilder::raw(const Model& model, const std::string& text) {
  const auto& tokenizer = tokenizer_of(model);
  return after_bos(facts_of(tokenizer)->bos, tokenizer->encode(text, false, true));
}

ControlTextGuard::ControlTextGuard(const std::vector<std::string>& control_texts)
    : control_texts_(control_texts), mark_(random_mark('T')) {}

Json ControlTextGuard::hide(const Json& value) {
  if (value.is_string()) {
    return hide_in(value.get_ref<const std::string&>());
  }
  if (!value.is_structured()) {
    return value;
  }
  Json copy = value.is_array() ? Json::array() : Json::object();
  for (const auto& item : value.items()) {
    if (value.is_array()) {
      copy.push_back(hide(item.value()));
    } else {
      copy[hide_in(item.key())] = hide(item.value());
    }
  }
  return copy;
}

// A mark is plain ASCII (templates may escape or trim text) and ends with its number and ';'.
std::string ControlTextGuard::hide_in(const std::string& text) {
  std::string result;
  size_t i = 0;
  while (i < text.size()) {
    const auto found = std::find_if(
        control_texts_.begin(), control_texts_.end(),
        [&](const std::string& control) { return text.compare(i, control.size(), control) == 0; });
    if (found == control_texts_.end()) {
      result += text[i++];
    } else {
      result += mark_ + std::to_string(hidden_.size()) + ";";
      hidden_.push_back(*found);
      i += found->size();
    }
  }
  return result;
}

std::vector<ControlTextGuard::Piece> ControlTextGuard::split(const std::string& rendered) const {
  std::vector<Piece> pieces;
  size_t begin = 0;
  while (begin < rendered.size()) {
    const size_t mark = hidden_.empty() ? std::string::npos : rendered.find(mark_, begin);
    const size_t end = std::min(mark, rendered.size());
    if (end > begin) {
      pieces.push_back({rendered.substr(begin, end - begin), false});
    }
    if (mark == std::string::npos) {
      break;
    }
    size_t number = 0;
    begin = mark + mark_.size();
    while (begin < rendered.size() && rendered[begin] != ';') {
      number = number * 10 + static_cast<size_t>(rendered[begin++] - '0');
    }
    ++begin;
    if (number < hidden_.size()) {
      pieces.push_back({hidden_[number], true});
    }
  }
  return pieces;
}

}  // namespace mlxr
