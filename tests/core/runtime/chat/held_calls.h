// What tests of held calls share: vocabularies, answers under the masks that the daemon would put
// on them, and what a client would read.
#pragma once

#include <gtest/gtest.h>

#include <array>

#include "core/runtime/chat/answer_parser.h"
#include "core/runtime/chat/tool_parsers/call_grammar.h"
#include "core/runtime/constraint/answer_constraint.h"
#include "tests/core/runtime/tokenizer/demo_vocab.h"

namespace mlxr::testing {

using Json = nlohmann::ordered_json;
using Format = ToolFormat;

inline constexpr int32_t kStop = 0;

inline Json tool(const std::string& name, bool strict, const std::string& parameters) {
  return {
      {"type", "function"},
      {"function", {{"name", name}, {"strict", strict}, {"parameters", Json::parse(parameters)}}}};
}

// A tokenizer, and what it knows of marks.
struct Vocabulary {
  std::shared_ptr<const Tokenizer> tokenizer;
  std::unique_ptr<ConstraintCompiler> compiler;

  explicit Vocabulary(const std::vector<std::string>& marks,
                      const std::vector<std::string>& stops = {}) {
    nlohmann::json json = read_json("models/mlxr-demo/tokenizer.json");
    auto& added = json["added_tokens"];
    for (size_t i = added.size(); i-- > 0;) {
      const std::string content = added[i]["content"];
      if (content.find("tool_call") != std::string::npos) added[i]["content"] = "<odd" + content;
    }
    for (const std::string& mark : marks) {
      nlohmann::json token = added.back();
      token["id"] = added.back()["id"].get<int>() + 1;
      token["content"] = mark;
      token["special"] = true;
      added.push_back(token);
    }
    tokenizer = Tokenizer::from_json(json.dump());
    std::vector<int32_t> ends{kStop};
    for (const std::string& stop : stops) ends.push_back(*tokenizer->token_id(stop));
    compiler = std::make_unique<ConstraintCompiler>(tokenizer, ends);
  }

  ControlTokens tokens() const {
    return [this](std::string_view text) -> std::optional<int32_t> {
      const auto id = tokenizer->token_id(text);
      return id && tokenizer->is_special(*id) ? id : std::nullopt;
    };
  }
  std::shared_ptr<const Constraint> compile(const std::string& grammar) const {
    EXPECT_NE(grammar, "");
    return compiler->compile({ConstraintSpec::Kind::kLark, grammar});
  }
};

inline const Vocabulary& with_marks() {
  static const Vocabulary made({"<tool_call>",
                                "</tool_call>",
                                "<|tool_call|>",
                                "<|/tool_call|>",
                                "<|python_tag|>",
                                "<|python_start|>",
                                "[TOOL_CALLS]",
                                "[ARGS]",
                                "[CALL_ID]",
                                "<｜tool▁calls▁begin｜>",
                                "<｜tool▁call▁begin｜>",
                                "<｜tool▁sep｜>",
                                "<｜tool▁call▁end｜>",
                                "<｜tool▁calls▁end｜>",
                                "<start_function_call>",
                                "<end_function_call>",
                                "<escape>",
                                "<|tool_call>",
                                "<tool_call|>",
                                "<|\"|>",
                                "<|START_ACTION|>",
                                "<|END_ACTION|>",
                                "<|start|>",
                                "<|channel|>",
                                "<|message|>",
                                "<|end|>",
                                "<|call|>",
                                "<|return|>",
                                "<|constrain|>",
                                "<arg_key>",
                                "</arg_key>",
                                "<arg_value>",
                                "</arg_value>"});
  return made;
}

inline const Vocabulary& without_marks() {
  static const Vocabulary made({});
  return made;
}

// As the daemon holds answers (daemon/server/constraints.cpp).
inline AnswerConstraint held(const Vocabulary& words, Format format, const Json& tools) {
  FreeParts free;
  for (const std::string_view mark : call_marks(format)) {
    const auto token = words.tokenizer->token_id(mark);
    if (!token) continue;
    free.call_marks.push_back(
        {*token, words.compile(calls_grammar(format, tools, mark, words.tokens()))});
  }
  std::shared_ptr<const Constraint> whole;
  if (free.call_marks.empty() || begins_without_mark(format)) {
    whole = words.compile(answer_grammar(format, tools, words.tokens()));
  }
  return {whole.get(), words.tokenizer->vocab_size(), free, std::array{5, 6}};
}

inline bool may_follow(AnswerConstraint& answer, int32_t id) {
  const auto mask = answer.mask();
  return mask.empty() || allows(mask, id);
}

// How much of the text passes; npos for all, with the answer's end.
inline size_t passes(const Vocabulary& words, AnswerConstraint answer, const std::string& text) {
  std::string written;
  for (const int32_t id : words.tokenizer->encode(text, false, true)) {
    if (answer.complete() || !may_follow(answer, id)) return written.size();
    answer.accept(id);
    written += words.tokenizer->token_bytes(id);
  }
  return answer.complete() || may_follow(answer, kStop) ? std::string::npos : written.size();
}

// The calls that a client would get of the answer, each as {"name", "arguments"}, and its text.
struct Read {
  Json calls = Json::array();
  std::string text;
};
inline Read read(Format format, const Json& tools, const std::string& answer) {
  AnswerSyntax syntax;
  syntax.tools = format;
  syntax.tool_list = tools;
  const auto parser = make_answer_parser(syntax);
  ChatEvents events;
  parser->push(answer, events);
  parser->finish(events);
  Read found;
  for (const ChatEvent& event : events) {
    if (event.kind == ChatEvent::Kind::kCall) {
      found.calls.push_back({{"name", event.text}, {"arguments", ""}});
    } else if (event.kind == ChatEvent::Kind::kArguments) {
      Json& arguments = found.calls.back()["arguments"];
      arguments = arguments.get<std::string>() + event.text;
    } else if (event.kind == ChatEvent::Kind::kText) {
      found.text += event.text;
    }
  }
  for (Json& call : found.calls) {
    call["arguments"] = Json::parse(call["arguments"].get<std::string>());
  }
  return found;
}

}  // namespace mlxr::testing
