#include "core/runtime/chat/tool_parsers/tool_parser.h"

#include "core/runtime/chat/tool_parsers/call_grammar.h"
#include "core/runtime/chat/tool_parsers/parsers.h"
#include "core/runtime/chat/tool_parsers/tagged_json.h"
#include "core/runtime/chat/tool_parsers/typed_arguments.h"

namespace mlxr {
namespace {

// Everything is text.
class PlainTextParser : public TextParser {
 public:
  void push(std::string_view text, ChatEvents& out) override {
    if (!text.empty()) out.push_back({ChatEvent::Kind::kText, std::string(text), 0});
  }
  void finish(ChatEvents&) override {}
};

// The first mark that a template has decides; marks that hold others come before them.
struct Sign {
  std::string_view mark;
  ToolFormat format;
};
constexpr Sign kSigns[] = {
    {"<|channel|>", ToolFormat::kHarmony},
    {"<｜tool▁calls▁begin｜>", ToolFormat::kDeepSeek},
    {"[ARGS]", ToolFormat::kMistralNamed},
    {"[TOOL_CALLS]", ToolFormat::kMistral},
    {"<start_function_call>", ToolFormat::kGemmaFunction},
    {"<|tool_call>", ToolFormat::kGemmaCall},
    {"<|/tool_call|>", ToolFormat::kPhi},
    {"<|tool_call|>", ToolFormat::kGranite},
    {"functools[", ToolFormat::kPhiFunctools},
    {"<|START_ACTION|>", ToolFormat::kCommandR},
    {"Action: ```json", ToolFormat::kCommandRPlus},
    {"Action:```json", ToolFormat::kCommandRPlus},
    {"<arg_key>", ToolFormat::kGlm},
    {"<function=", ToolFormat::kQwenXml},
    {"<tool_call>", ToolFormat::kHermes},
    {"<|python_start|>", ToolFormat::kLlamaPythonic},
    {"[func_name1(", ToolFormat::kLlamaPythonic},
    {"<|python_tag|>", ToolFormat::kLlamaJson},
    {"\"parameters\": dictionary of argument name", ToolFormat::kLlamaJson},
    {"tool_code", ToolFormat::kGemmaCode},
};

std::string json_opening(const JsonCall& spelling, std::string_view name) {
  // Ends where tokens of ordinary JSON end: a space or a quote more, and the model would have to go
  // on with tokens that it never saw there.
  std::string opening(spelling.before);
  opening.append("{").append(spelling.first_member);
  opening.append("\"").append(spelling.name_key).append("\":");
  if (!name.empty()) {
    opening.append(" \"")
        .append(name)
        .append("\", \"")
        .append(spelling.arguments_key)
        .append("\":");
  }
  return opening;
}

std::string named_opening(std::string_view before, std::string_view name, std::string_view after) {
  std::string opening(before);
  if (!name.empty()) opening.append(name).append(after);
  return opening;
}

}  // namespace

ToolFormat find_tool_format(std::string_view template_source) {
  for (const Sign& sign : kSigns) {
    if (template_source.find(sign.mark) != std::string_view::npos) return sign.format;
  }
  return ToolFormat::kNone;
}

bool marks_are_control_tokens(ToolFormat format) {
  switch (format) {
    case ToolFormat::kNone:
    case ToolFormat::kHermes:
    case ToolFormat::kQwenXml:
    case ToolFormat::kGlm:
    case ToolFormat::kGemmaCode:
    case ToolFormat::kPhiFunctools:
    case ToolFormat::kCommandRPlus:
      return false;
    default:
      return true;
  }
}

bool wants_short_call_ids(ToolFormat format) {
  return format == ToolFormat::kMistral || format == ToolFormat::kMistralNamed;
}

std::string call_opening(ToolFormat format, std::string_view name) {
  if (const auto spelling = json_call(format)) return json_opening(*spelling, name);
  switch (format) {
    case ToolFormat::kQwenXml:
      return named_opening("<tool_call>\n<function=", name, ">\n");
    case ToolFormat::kGlm:
      return named_opening("<tool_call>", name, "\n");
    case ToolFormat::kMistralNamed:
      return named_opening("[TOOL_CALLS]", name, "[ARGS]");
    case ToolFormat::kLlamaPythonic:
      return named_opening("[", name, "(");
    case ToolFormat::kHarmony:
      return named_opening("<|channel|>commentary to=functions.", name,
                           " <|constrain|>json<|message|>");
    case ToolFormat::kDeepSeek:  // two spellings of what follows: the model knows its own
      return "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>";
    case ToolFormat::kGemmaFunction:
      return named_opening("<start_function_call>call:", name, "");
    case ToolFormat::kGemmaCall:
      return named_opening("<|tool_call>call:", name, "");
    case ToolFormat::kGemmaCode:
      return named_opening("```tool_code\n", name, "(");
    default:
      return "";
  }
}

namespace {

std::unique_ptr<TextParser> parser_of(ToolFormat format, ToolSchemas schemas) {
  switch (format) {
    case ToolFormat::kHermes:
      return tagged_json_parser({{"<tool_call>"}, "</tool_call>", {}});
    case ToolFormat::kPhi:
      return tagged_json_parser({{"<|tool_call|>"}, "<|/tool_call|>", {}});
    case ToolFormat::kPhiFunctools:
      return tagged_json_parser({{"functools"}, "", {}});
    case ToolFormat::kGranite:
      return tagged_json_parser({{"<|tool_call|>", "<tool_call>"}, "", {"</tool_call>"}});
    case ToolFormat::kCommandR:
      return tagged_json_parser(
          {{"<|START_ACTION|>"}, "<|END_ACTION|>", {"<|START_RESPONSE|>", "<|END_RESPONSE|>"}});
    case ToolFormat::kCommandRPlus:
      return tagged_json_parser({{"Action: ```json", "Action:```json"}, "```", {}});
    case ToolFormat::kLlamaJson:
      return bare_json_parser(schemas.names());
    case ToolFormat::kLlamaPythonic:
      return bare_pythonic_parser(schemas.names());
    case ToolFormat::kMistral:
    case ToolFormat::kMistralNamed:
      return mistral_parser();
    case ToolFormat::kDeepSeek:
      return deepseek_parser();
    case ToolFormat::kQwenXml:
      return qwen_xml_parser(std::move(schemas));
    case ToolFormat::kGlm:
      return glm_parser(std::move(schemas));
    case ToolFormat::kGemmaCode:
      return fenced_pythonic_parser();
    case ToolFormat::kGemmaFunction:
      return gemma_parser({"<start_function_call>", "<end_function_call>", "<escape>"});
    case ToolFormat::kGemmaCall:
      return gemma_parser({"<|tool_call>", "<tool_call|>", "<|\"|>"});
    case ToolFormat::kHarmony:
      return harmony_parser();
    case ToolFormat::kNone:
      break;
  }
  return std::make_unique<PlainTextParser>();
}

}  // namespace

std::unique_ptr<TextParser> make_tool_parser(ToolFormat format,
                                             const nlohmann::ordered_json& tools) {
  ToolSchemas schemas(tools);
  if (schemas.names().empty() && format != ToolFormat::kHarmony) {
    return std::make_unique<PlainTextParser>();
  }
  return with_typed_arguments(parser_of(format, schemas), schemas);
}

}  // namespace mlxr
