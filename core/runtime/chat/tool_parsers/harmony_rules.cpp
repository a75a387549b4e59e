// gpt-oss: a whole answer is a sequence of messages, each with a header of its own.
#include "core/runtime/chat/tool_parsers/call_rules.h"

namespace mlxr {
namespace {

using Json = nlohmann::ordered_json;

const std::vector<std::string> kMarks{"<|start|>", "<|channel|>", "<|message|>",
                                      "<|end|>",   "<|call|>",    "<|return|>"};

class HarmonyRules {
 public:
  HarmonyRules(GrammarRules& rules, const Json& tools) : rules_(rules) {
    constrain_ = rules.is_control_token("<|constrain|>") ? rules.mark("<|constrain|>") : "";
    for (const Json& tool : tools) {
      if (!is_plain_name(tool_name(tool))) continue;
      names_.push_back(GrammarRules::literal(tool_name(tool)));
      arguments_.push_back("space " + rules.json(arguments_schema(tool)));
    }
    text_ = rules.text_without(kMarks);
    const std::string message = rules.mark("<|message|>"), channel = rules.mark("<|channel|>");
    // A header names the function, if any, before its channel or after.
    const std::string kind = constrain_.empty()
                                 ? "(\" json\" | \" code\")?"
                                 : "(\" json\" | \" code\" | \" \"? " + constrain_ + " \"json\"?)?";
    after_name_ = rules.rule(kind + " " + message);
    const std::string header = header_text();
    std::vector<std::string> headers{channel + " " + header + " " + message + " " + text_};
    std::vector<std::string> roles{"\"assistant\" " + rules.rule(headers[0])};
    if (!names_.empty()) {
      // One lexeme, or the text of a header would win over its beginning.
      headers.push_back(channel + " (\"commentary to=functions.\" | \"analysis to=functions.\") " +
                        named());
      roles = {"\"assistant\" " + rules.choice(headers),
               "\"assistant to=functions.\" " + named(channel + " " + header)};
    }
    message_ = rules.choice(headers);
    const std::string end =
        rules.choice({rules.mark("<|end|>"), rules.mark("<|call|>"), rules.mark("<|return|>")});
    more_ = rules.rule("(" + end + " " + rules.mark("<|start|>") + " " + rules.choice(roles) +
                       ")* " + end + "?");
  }

  std::string answer() const { return "(" + message_ + " | " + text_ + ") " + more_; }
  std::string rest(bool name_is_known) {
    return (name_is_known ? arguments_[0] : named()) + " " + more_;
  }
  bool has_names() const { return !names_.empty(); }

 private:
  // A header without a function.
  std::string header_text() {
    const std::string words = rules_.terminal("/[^<]{0,128}/ & ~(ALL \"to=functions.\" ALL)");
    return constrain_.empty() ? words : "(" + words + " (" + constrain_ + " " + words + ")?)";
  }

  // From the name on. `between`: what stands between it and the message, if not the usual.
  std::string named(const std::string& between = "") {
    std::vector<std::string> ways;
    for (size_t i = 0; i < names_.size(); ++i) {
      const std::string after =
          between.empty() ? after_name_ : between + " " + rules_.mark("<|message|>");
      ways.push_back(names_[i] + " " + after + " " + arguments_[i]);
    }
    return rules_.choice(ways);
  }

  GrammarRules& rules_;
  std::vector<std::string> names_, arguments_;
  std::string constrain_, text_, after_name_, message_, more_;
};

bool has_marks(const GrammarRules& rules) {
  for (const std::string& mark : kMarks) {
    if (!rules.is_control_token(mark)) return false;
  }
  return true;
}

}  // namespace

std::string harmony_answer(GrammarRules& rules, const Json& tools) {
  return has_marks(rules) ? HarmonyRules(rules, tools).answer() : "";
}

std::string harmony_rest(GrammarRules& rules, const Json& tools, bool name_is_known) {
  if (!has_marks(rules)) return "";
  HarmonyRules harmony(rules, tools);
  return harmony.has_names() ? harmony.rest(name_is_known) : "";
}

}  // namespace mlxr
