#include "daemon/server/openai/response_items.h"

#include <algorithm>
#include <array>
#include <map>

#include "daemon/server/http/api_error.h"
#include "daemon/server/random_id.h"

namespace mlxr::openai {
namespace {

std::string at(const std::string& name, size_t index) {
  return name + "[" + std::to_string(index) + "]";
}

[[noreturn]] void wrong(const std::string& path, const std::string& what,
                        const std::string& code = "") {
  throw bad_field(path, "\"" + path + "\" " + what, code);
}

std::string required_text(const Fields& fields, const std::string& name) {
  const auto text = fields.string(name);
  if (!text) {
    wrong(fields.path(name), "is missing");
  }
  return *text;
}

std::string id_of(const Fields& item, const std::string& prefix) {
  const std::string id = item.string("id").value_or("");
  return id.empty() ? random_id(prefix) : id;
}

// One part of a content, of which only text can be read. `type`: what it is called in this place.
Json read_part(const Json& source, const std::string& path, const std::string& type) {
  if (!source.is_object()) {
    wrong(path, "must be an object");
  }
  const Fields part(source, path + ".");
  const std::string given = required_text(part, "type");
  if (given == "refusal") {
    return {{"type", type}, {"text", required_text(part, "refusal")}};
  }
  if (given == "input_image" || given == "input_file" || given == "input_audio") {
    wrong(part.path("type"), "is \"" + given + "\": this server reads text only, as yet",
          "unsupported_parameter");
  }
  if (!given.ends_with("text")) {
    wrong(part.path("type"), "is \"" + given + "\", which is no part of a text");
  }
  return {{"type", type}, {"text", required_text(part, "text")}};
}

// A string, or parts.
Json read_content(const Fields& item, const std::string& name, const std::string& type) {
  const Json* content = item.value(name);
  if (content == nullptr) {
    wrong(item.path(name), "is missing");
  }
  Json parts = Json::array();
  if (content->is_string()) {
    parts.push_back({{"type", type}, {"text", *content}});
    return parts;
  }
  if (!content->is_array()) {
    wrong(item.path(name), "must be a string or an array of parts");
  }
  for (size_t i = 0; i < content->size(); ++i) {
    parts.push_back(read_part((*content)[i], at(item.path(name), i), type));
  }
  return parts;
}

Json read_message(const Fields& item) {
  static constexpr std::array<std::string_view, 4> kRoles{"user", "assistant", "system",
                                                          "developer"};
  const std::string role = required_text(item, "role");
  if (std::find(kRoles.begin(), kRoles.end(), role) == kRoles.end()) {
    wrong(item.path("role"), "must be user, assistant, system or developer, not \"" + role + "\"");
  }
  const bool own = role == "assistant";
  Json message{{"id", id_of(item, "msg_")},
               {"type", "message"},
               {"status", "completed"},
               {"role", role},
               {"content", read_content(item, "content", own ? "output_text" : "input_text")}};
  for (Json& part : message["content"]) {
    if (own) {
      part["annotations"] = Json::array();
    }
  }
  return message;
}

Json read_call(const Fields& item) {
  return {{"id", id_of(item, "fc_")},
          {"type", "function_call"},
          {"status", "completed"},
          {"call_id", required_text(item, "call_id")},
          {"name", required_text(item, "name")},
          {"arguments", required_text(item, "arguments")}};
}

Json read_result(const Fields& item) {
  Json result{{"id", id_of(item, "fc_")},
              {"type", "function_call_output"},
              {"status", "completed"},
              {"call_id", required_text(item, "call_id")}};
  result["output"] = read_content(item, "output", "input_text");
  return result;
}

// What was thought lies in "content"; a summary stands for it where a client kept only that.
Json read_reasoning(const Fields& item) {
  Json parts = Json::array();
  for (const char* name : {"content", "summary"}) {
    const Json* list = item.array(name);
    if (parts.empty() && list != nullptr && !list->empty()) {
      parts = read_content(item, name, "reasoning_text");
    }
  }
  return {{"id", id_of(item, "rs_")},
          {"type", "reasoning"},
          {"summary", Json::array()},
          {"content", std::move(parts)}};
}

Json read_item(const Json& source, const std::string& path) {
  if (!source.is_object()) {
    wrong(path, "must be an object");
  }
  const Fields item(source, path + ".");
  const std::string type = item.string("type").value_or("message");
  if (type == "message") {
    return read_message(item);
  }
  if (type == "function_call") {
    return read_call(item);
  }
  if (type == "function_call_output") {
    return read_result(item);
  }
  if (type == "reasoning") {
    return read_reasoning(item);
  }
  if (type == "item_reference") {
    wrong(item.path("type"),
          "is \"item_reference\": send the item itself, or name its response in "
          "\"previous_response_id\"",
          "unsupported_parameter");
  }
  wrong(item.path("type"),
        "is \"" + type +
            "\"; this server reads message, function_call, function_call_output and reasoning",
        "unsupported_parameter");
}

std::string text_of(const Json& parts) {
  std::string text;
  for (const Json& part : parts) {
    text += part["text"].get_ref<const std::string&>();
  }
  return text;
}

// Gathers the model's items of one turn into one message.
class Conversation {
 public:
  explicit Conversation(const std::string& instructions) {
    if (!instructions.empty()) {
      messages_.push_back({{"role", "system"}, {"content", instructions}});
    }
  }

  void add(const Json& item) {
    const std::string& type = item["type"].get_ref<const std::string&>();
    if (type == "function_call") {
      call(item);
    } else if (type == "function_call_output") {
      result(item);
    } else if (type == "reasoning") {
      think(item);
    } else if (item["role"] == "assistant") {
      say(text_of(item["content"]));
    } else {
      hear(item["role"].get<std::string>(), text_of(item["content"]));
    }
  }

  Json take() {
    end_turn();
    return std::move(messages_);
  }

 private:
  // Templates know one system message, at the beginning.
  void hear(const std::string& role, const std::string& text) {
    end_turn();
    const bool is_system = role != "user";
    if (is_system && messages_.size() == 1 && messages_[0]["role"] == "system") {
      messages_[0]["content"].get_ref<std::string&>() += "\n\n" + text;
    } else {
      messages_.push_back({{"role", is_system ? "system" : role}, {"content", text}});
    }
  }

  void say(const std::string& text) {
    if (turn_.contains("content") || turn_.contains("tool_calls")) {
      end_turn();
    }
    turn_["content"] = text;
  }

  void think(const Json& item) {
    if (!turn_.empty()) {
      end_turn();
    }
    const std::string text = text_of(item["content"]);
    if (!text.empty()) {
      turn_["reasoning_content"] = text;
    }
  }

  void call(const Json& item) {
    names_[item["call_id"].get<std::string>()] = item["name"].get<std::string>();
    turn_["tool_calls"].push_back(
        {{"id", item["call_id"]},
         {"type", "function"},
         {"function", {{"name", item["name"]}, {"arguments", item["arguments"]}}}});
  }

  void result(const Json& item) {
    end_turn();
    Json message{
        {"role", "tool"}, {"tool_call_id", item["call_id"]}, {"content", text_of(item["output"])}};
    const auto name = names_.find(item["call_id"].get<std::string>());
    if (name != names_.end()) {
      message["name"] = name->second;
    }
    messages_.push_back(std::move(message));
  }

  void end_turn() {
    if (turn_.empty()) {
      return;
    }
    Json message{{"role", "assistant"}};
    message["content"] = turn_.value("content", "");
    turn_.erase("content");
    message.update(turn_);
    messages_.push_back(std::move(message));
    turn_ = Json::object();
  }

  Json messages_ = Json::array();
  Json turn_ = Json::object();
  std::map<std::string, std::string> names_;  // of called functions, by call_id
};

}  // namespace

Json read_input_items(const Json& input) {
  if (input.is_string()) {
    Json message{{"role", "user"}, {"content", input}};
    return Json::array({read_item(message, at("input", 0))});
  }
  if (!input.is_array()) {
    wrong("input", "must be a string or an array of items");
  }
  Json items = Json::array();
  for (size_t i = 0; i < input.size(); ++i) {
    items.push_back(read_item(input[i], at("input", i)));
  }
  return items;
}

Json messages_of_items(const std::string& instructions, const Json& items) {
  Conversation conversation(instructions);
  for (const Json& item : items) {
    conversation.add(item);
  }
  return conversation.take();
}

}  // namespace mlxr::openai
