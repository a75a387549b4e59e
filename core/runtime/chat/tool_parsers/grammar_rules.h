// The parts that grammars of tool calls are put together from, in llguidance's dialect of Lark.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mlxr {

// The control token whose text this is. A grammar never writes one by its spelling.
using ControlTokens = std::function<std::optional<int32_t>(std::string_view)>;

// Rules and terminals of one grammar. What its functions return are expressions for the bodies of
// rules. Lexemes are read as long as they can be, so text up to a mark is one lexeme with the mark
// where that is text as well.
class GrammarRules {
 public:
  explicit GrammarRules(ControlTokens tokens) : tokens_(std::move(tokens)) {}

  static std::string literal(std::string_view text);
  std::string mark(std::string_view text) const;
  bool is_control_token(std::string_view text) const { return token_of(text).has_value(); }

  // A rule of its own with this body, by a name that no other has; `body` may be given later.
  std::string name_rule();
  void define(const std::string& name, const std::string& body);
  std::string rule(const std::string& body);
  std::string terminal(const std::string& body);
  std::string choice(const std::vector<std::string>& ways);
  std::string json(nlohmann::ordered_json schema);

  // Text, or nothing, without any of the marks.
  std::string text_without(const std::vector<std::string>& marks);
  // Text of the form that `content` says (the body of a terminal; empty: any) and then `end`. The
  // text holds neither `end` nor any of `without`.
  std::string text_up_to(std::string_view end, const std::string& content = "",
                         const std::vector<std::string>& without = {});

  // The whole, with this body of the start rule.
  std::string grammar(const std::string& start) const;

 private:
  std::optional<int32_t> token_of(std::string_view text) const;
  static std::string text_body(const std::string& content, const std::vector<std::string>& without);

  ControlTokens tokens_;
  std::string rules_;
  int count_ = 0;
};

}  // namespace mlxr
