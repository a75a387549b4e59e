// gpt-oss: the answer is a sequence of messages, each with a channel: "analysis" is reasoning, a
// "commentary" with a recipient is a call, the rest is for the reader.
// Source: OpenAI's description of the harmony format.
#include <utility>

#include "core/runtime/chat/tag_finder.h"
#include "core/runtime/chat/tool_parsers/call_writer.h"
#include "core/runtime/chat/tool_parsers/parsers.h"

namespace mlxr {
namespace {

const std::string kStart = "<|start|>";
const std::string kChannel = "<|channel|>";
const std::string kMessage = "<|message|>";
constexpr std::string_view kRecipient = "to=functions.";

class HarmonyParser : public TextParser {
 public:
  void push(std::string_view text, ChatEvents& out) override {
    buffer_ += text;
    while (step(out)) {
    }
  }

  void finish(ChatEvents& out) override {
    if (state_ == State::kContent) content(std::exchange(buffer_, {}), out);
    writer_.finish(out);
  }

 private:
  enum class State { kContent, kHeader };
  enum class Channel { kText, kReasoning, kCall };

  bool step(ChatEvents& out) { return state_ == State::kHeader ? header(out) : read(out); }

  bool header(ChatEvents& out) {
    const size_t end = buffer_.find(kMessage);
    if (end == std::string::npos) return false;
    open_channel(buffer_.substr(0, end), out);
    buffer_.erase(0, end + kMessage.size());
    state_ = State::kContent;
    return true;
  }

  void open_channel(const std::string& header, ChatEvents& out) {
    const size_t recipient = header.find(kRecipient);
    const size_t begin = recipient + kRecipient.size();
    const std::string name =
        recipient == std::string::npos
            ? ""
            : header.substr(begin, header.find_first_of(" <\n", begin) - begin);
    if (!trimmed(name).empty()) {
      writer_.begin(name, out);
      channel_ = Channel::kCall;
    } else {
      channel_ =
          header.find("analysis") != std::string::npos ? Channel::kReasoning : Channel::kText;
    }
  }

  bool read(ChatEvents& out) {
    static const std::vector<std::string> tags{kStart,    kChannel,   kMessage,
                                               "<|end|>", "<|call|>", "<|return|>"};
    std::optional<FoundTag> found;
    const std::string before = take_before_tag(buffer_, tags, found);
    if (!before.empty()) content(before, out);
    if (!found) return false;
    if (tags[found->tag] == kMessage) return true;  // one too many
    if (channel_ == Channel::kCall) writer_.end(out);
    // Between two messages nothing is said.
    if (found->tag >= 3) channel_ = Channel::kText;
    if (found->tag < 2) state_ = State::kHeader;
    return true;
  }

  void content(const std::string& text, ChatEvents& out) {
    if (text.empty()) return;
    switch (channel_) {
      case Channel::kText:
        writer_.text(text, out);
        break;
      case Channel::kReasoning:
        out.push_back({ChatEvent::Kind::kReasoning, text, 0});
        break;
      case Channel::kCall:
        writer_.arguments(text, out);
        break;
    }
  }

  State state_ = State::kContent;
  Channel channel_ = Channel::kText;
  std::string buffer_;
  CallWriter writer_;
};

}  // namespace

std::unique_ptr<TextParser> harmony_parser() { return std::make_unique<HarmonyParser>(); }

}  // namespace mlxr
