#include "core/runtime/chat/reasoning.h"

#include <utility>

#include "core/runtime/chat/tag_finder.h"

namespace mlxr {
namespace {

class ReasoningParser : public TextParser {
 public:
  ReasoningParser(ReasoningTags tags, bool begins_inside, std::unique_ptr<TextParser> rest)
      : tags_(std::move(tags)),
        rest_(std::move(rest)),
        state_(begins_inside ? State::kInside : State::kBefore) {}

  void push(std::string_view text, ChatEvents& out) override {
    buffer_ += text;
    while (step(out)) {
    }
  }

  void finish(ChatEvents& out) override {
    if (state_ == State::kInside) {
      say(std::exchange(buffer_, {}), out);
    } else {
      rest_->push(std::exchange(buffer_, {}), out);
    }
    rest_->finish(out);
  }

 private:
  enum class State { kBefore, kInside, kBehind, kRest };

  bool step(ChatEvents& out) {
    switch (state_) {
      case State::kBefore:
        return find_open();
      case State::kInside:
        return read(out);
      case State::kBehind:
        return skip_space();
      case State::kRest:
        if (!buffer_.empty()) rest_->push(std::exchange(buffer_, {}), out);
        return false;
    }
    return false;
  }

  bool find_open() {
    const size_t start = buffer_.find_first_not_of(" \t\r\n");
    if (start == std::string::npos) return false;
    const std::string_view begin = std::string_view(buffer_).substr(start);
    if (begin.starts_with(tags_.open)) {
      buffer_.erase(0, start + tags_.open.size());
      state_ = State::kInside;
      return true;
    }
    if (tags_.open.starts_with(begin)) return false;
    state_ = State::kRest;
    return true;
  }

  bool read(ChatEvents& out) {
    std::optional<FoundTag> found;
    const std::string before = take_before_tag(buffer_, {tags_.close}, found);
    say(before, out);
    if (found) state_ = State::kBehind;
    return found.has_value();
  }

  // The white space round reasoning is the format's.
  void say(std::string text, ChatEvents& out) {
    if (!begun_) text.erase(0, std::min(text.find_first_not_of(" \t\r\n"), text.size()));
    if (text.empty()) return;
    begun_ = true;
    const size_t last = text.find_last_not_of(" \t\r\n");
    const size_t end = last == std::string::npos ? 0 : last + 1;
    const std::string held = std::exchange(held_space_, "");
    held_space_ = text.substr(end);
    if (end == 0) {
      held_space_ = held + held_space_;
      return;
    }
    out.push_back({ChatEvent::Kind::kReasoning, held + text.substr(0, end), 0});
  }

  bool skip_space() {
    const size_t start = buffer_.find_first_not_of(" \t\r\n");
    buffer_.erase(0, std::min(start, buffer_.size()));
    if (start == std::string::npos) return false;
    state_ = State::kRest;
    return true;
  }

  ReasoningTags tags_;
  std::unique_ptr<TextParser> rest_;
  State state_;
  std::string buffer_, held_space_;
  bool begun_ = false;
};

}  // namespace

const std::vector<ReasoningTags>& known_reasoning_tags() {
  static const std::vector<ReasoningTags> tags{{"<think>", "</think>"},
                                               {"[THINK]", "[/THINK]"},
                                               {"<|START_THINKING|>", "<|END_THINKING|>"},
                                               {"<seed:think>", "</seed:think>"}};
  return tags;
}

std::optional<ReasoningTags> find_reasoning_tags(std::string_view template_source) {
  for (const ReasoningTags& tags : known_reasoning_tags()) {
    if (template_source.find(tags.open) != std::string_view::npos ||
        template_source.find(tags.close) != std::string_view::npos) {
      return tags;
    }
  }
  return std::nullopt;
}

std::unique_ptr<TextParser> reasoning_parser(ReasoningTags tags, bool begins_inside,
                                             std::unique_ptr<TextParser> rest) {
  return std::make_unique<ReasoningParser>(std::move(tags), begins_inside, std::move(rest));
}

}  // namespace mlxr
