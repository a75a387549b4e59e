// An answer in any format of tool calls, whatever pieces it comes in: arguments are one JSON
// object, the pieces change nothing, and what is no call is text.
#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "core/runtime/chat/answer_parser.h"
#include "tests/fuzz/fuzz_input.h"

namespace mlxr::fuzz {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kFormats = static_cast<size_t>(ToolFormat::kHarmony) + 1;

const Json& tools() {
  static const Json* const made = new Json(Json::parse(R"([
    {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties":
      {"s": {"type": "string"}, "i": {"type": "integer"}, "n": {"type": "number"},
       "b": {"type": "boolean"}, "a": {"type": "array"}, "o": {"type": "object"}}}}},
    {"type": "function", "function": {"name": "get_time"}}])"));
  return *made;
}

// Detokenised text is UTF-8: anything else becomes U+FFFD.
std::string as_utf8(std::string_view bytes) {
  const std::string json =
      Json(std::string(bytes)).dump(-1, ' ', false, Json::error_handler_t::replace);
  return Json::parse(json).get<std::string>();
}

// Events with neighbours of one kind joined: what must not depend on the pieces.
ChatEvents joined(const ChatEvents& events) {
  ChatEvents all;
  for (const ChatEvent& event : events) {
    const bool goes_on = !all.empty() && all.back().kind == event.kind &&
                         event.kind != ChatEvent::Kind::kCall &&
                         event.kind != ChatEvent::Kind::kCallEnd;
    if (goes_on) {
      all.back().text += event.text;
    } else {
      all.push_back(event);
    }
  }
  return all;
}

std::string described(const ChatEvents& events) {
  std::string all;
  for (const ChatEvent& event : events) {
    all += std::to_string(static_cast<int>(event.kind)) + ":" + event.text + "\n";
  }
  return all;
}

// Calls come one after another, each ended, with whole arguments.
void check_calls(const ChatEvents& events) {
  using Kind = ChatEvent::Kind;
  bool open = false;
  std::string arguments;
  for (const ChatEvent& event : events) {
    if (event.kind == Kind::kCall) {
      promise(!open, "one call at a time");
      promise(!event.text.empty(), "a call has a name");
      open = true;
      arguments.clear();
    } else if (event.kind == Kind::kArguments) {
      promise(open, "arguments belong to a call");
      arguments += event.text;
    } else if (event.kind == Kind::kCallEnd) {
      promise(open, "only a call ends");
      open = false;
      promise(Json::parse(arguments, nullptr, false).is_object(), "arguments are a JSON object",
              arguments);
    } else {
      promise(!open, "nothing is said inside a call");
    }
  }
  promise(!open, "every call ends");
}

// The formats' marks, which are no text of the answer's.
constexpr std::string_view kMarks[] = {"[TOOL_CALLS]",
                                       "<|python_tag|>",
                                       "<|START_RESPONSE|>",
                                       "<|END_RESPONSE|>",
                                       "<｜tool▁calls▁begin｜>",
                                       "<｜tool▁calls▁end｜>",
                                       "<｜tool▁call▁begin｜>",
                                       "<｜tool▁call▁end｜>",
                                       "<｜end▁of▁sentence｜>",
                                       "</tool_call>",
                                       "<think>",
                                       "</think>",
                                       "<|python_start|>",
                                       "<|python_end|>"};

std::string without_space(std::string text) {
  std::erase_if(text, [](char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; });
  return text;
}

// Whether `said` is the answer, or its beginning, without some marks; white space does not count.
// A mark may also be text, so every way to leave marks out is followed: `said_up_to` holds how far
// `said` can be when the answer is read up to a place.
bool is_without_marks(const std::string& answer, const std::string& said, bool whole) {
  const std::string from = without_space(answer), to = without_space(said);
  std::vector<std::set<size_t>> said_up_to(from.size() + 1);
  said_up_to[0].insert(0);
  for (size_t at = 0; at <= from.size(); ++at) {
    for (const size_t done : said_up_to[at]) {
      if (done == to.size() && (!whole || at == from.size())) return true;
      if (at == from.size()) continue;
      if (done < to.size() && from[at] == to[done]) said_up_to[at + 1].insert(done + 1);
      for (const std::string_view mark : kMarks) {
        if (std::string_view(from).substr(at).starts_with(mark)) {
          said_up_to[at + mark.size()].insert(done);
        }
      }
    }
    said_up_to[at].clear();
  }
  return false;
}

// All of it where there is no call, what comes before the first where there is one.
void check_text(const std::string& answer, const ChatEvents& events) {
  std::string said;
  for (const ChatEvent& event : events) {
    if (event.kind == ChatEvent::Kind::kCall) {
      promise(is_without_marks(answer, said, false), "text before a call is the answer's", said);
      return;
    }
    said += event.text;
  }
  promise(is_without_marks(answer, said, true), "no text is lost", said);
}

ChatEvents parsed(const AnswerSyntax& syntax, std::string_view answer, uint32_t seed) {
  const auto parser = make_answer_parser(syntax);
  ChatEvents events;
  if (seed == 0) {
    parser->push(answer, events);
  } else {
    Pieces pieces(answer, seed);
    for (std::string_view piece; pieces.next(piece);) parser->push(piece, events);
  }
  parser->finish(events);
  return joined(events);
}

}  // namespace
}  // namespace mlxr::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mlxr;
  using namespace mlxr::fuzz;
  std::string_view input = text_of(data, size);
  AnswerSyntax syntax;
  syntax.tools = static_cast<ToolFormat>(choose(input, kFormats));
  syntax.tool_list = tools();
  const size_t reasoning = choose(input, 3);
  if (reasoning > 0) syntax.reasoning = ReasoningTags{"<think>", "</think>"};
  syntax.begins_in_reasoning = reasoning == 2;
  const auto seed = static_cast<uint32_t>(1 + choose(input, 255));
  const std::string answer = as_utf8(input);

  const ChatEvents whole = parsed(syntax, answer, 0);
  check_calls(whole);
  // Harmony's headers are no text, and say what is reasoning.
  if (syntax.tools != ToolFormat::kHarmony) check_text(answer, whole);
  const std::string once = described(whole), pieces = described(parsed(syntax, answer, seed));
  promise(once == pieces, "pieces change nothing", once + "---\n" + pieces);
  return 0;
}
