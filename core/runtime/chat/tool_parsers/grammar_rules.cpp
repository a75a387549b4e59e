#include "core/runtime/chat/tool_parsers/grammar_rules.h"

namespace mlxr {
namespace {

using Json = nlohmann::ordered_json;

// As long as in an answer's JSON (core/runtime/text-ffi/src/grammar.rs), or a model could write
// white space without end.
constexpr std::string_view kJsonSpace = R"((\x20|\n[\x20\t]{0,32}))";

// SPACE: between the marks of a call. ANY: text. ALL: any bytes, which costs the lexer nothing
// where it knows that the whole is text.
constexpr std::string_view kFixedRules =
    "space: SPACE?\nSPACE: /[ \\t\\n]{1,32}/\nANY: /(?s:.)*/\nALL: ~/[a&&b]/\n";

std::string any_of(const std::vector<std::string>& marks) {
  std::string ways;
  for (const std::string& mark : marks) {
    ways += (ways.empty() ? "" : " | ") + GrammarRules::literal(mark);
  }
  return "(" + ways + ")";
}

}  // namespace

std::optional<int32_t> GrammarRules::token_of(std::string_view text) const {
  return tokens_ ? tokens_(text) : std::nullopt;
}

std::string GrammarRules::literal(std::string_view text) {
  std::string dumped = Json(text).dump(-1, ' ', true, Json::error_handler_t::replace);
  for (size_t at = 0; (at = dumped.find('\x7f', at)) != std::string::npos;) {
    dumped.replace(at, 1, "\\u007f");
  }
  return dumped;
}

std::string GrammarRules::mark(std::string_view text) const {
  const auto token = token_of(text);
  if (!token) return literal(text);
  return std::string("<[").append(std::to_string(*token)).append("]>");
}

std::string GrammarRules::name_rule() { return std::string("r").append(std::to_string(count_++)); }

void GrammarRules::define(const std::string& name, const std::string& body) {
  rules_ += name + ": " + body + "\n";
}

std::string GrammarRules::rule(const std::string& body) {
  const std::string name = name_rule();
  define(name, body);
  return name;
}

std::string GrammarRules::terminal(const std::string& body) {
  const std::string name = std::string("T").append(std::to_string(count_++));
  define(name, body);
  return name;
}

std::string GrammarRules::choice(const std::vector<std::string>& ways) {
  std::string body;
  for (const std::string& way : ways) body += (body.empty() ? "" : "\n  | ") + way;
  return rule(body);
}

std::string GrammarRules::json(Json schema) {
  if (!schema.is_object()) schema = Json::object();
  schema["x-guidance"]["whitespace_pattern"] = kJsonSpace;
  if (!schema["x-guidance"].contains("lenient")) schema["x-guidance"]["lenient"] = false;
  return rule("%json " + schema.dump());
}

std::string GrammarRules::text_body(const std::string& content,
                                    const std::vector<std::string>& without) {
  std::string body = content.empty() ? "ANY" : "(" + content + ") & ANY";
  if (!without.empty()) body += " & ~(ALL " + any_of(without) + " ALL)";
  return body;
}

std::string GrammarRules::text_without(const std::vector<std::string>& marks) {
  return terminal(text_body("", marks));
}

std::string GrammarRules::text_up_to(std::string_view end, const std::string& content,
                                     const std::vector<std::string>& without) {
  std::vector<std::string> marks = without;
  marks.emplace_back(end);
  const std::string body = text_body(content, marks);
  // No mark can begin inside itself, so that none comes about where text and `end` meet.
  if (!is_control_token(end)) return terminal("(" + body + ") " + literal(end));
  const std::string text = terminal(body);
  return std::string("(").append(text).append(" ").append(mark(end)).append(")");
}

std::string GrammarRules::grammar(const std::string& start) const {
  return "start: " + start + "\n" + std::string(kFixedRules) + rules_;
}

}  // namespace mlxr
