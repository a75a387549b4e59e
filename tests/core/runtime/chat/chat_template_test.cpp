// Chat templates, against what transformers renders (tests/text/make_fixtures.py).
#include "core/runtime/chat/chat_template.h"

#include <gtest/gtest.h>

#include <ctime>
#include <filesystem>
#include <thread>
#include <vector>

#include "core/base/error.h"
#include "core/base/file.h"
#include "tests/source_dir.h"

namespace mlxr::testing {
namespace {

using Json = nlohmann::ordered_json;

Json read_json(const std::string& relative) {
  return Json::parse(read_file(testing::source_dir() / relative));
}

ChatRenderOptions options_of(const Json& example) {
  ChatRenderOptions options;
  options.add_generation_prompt = example.value("add_generation_prompt", true);
  options.tools = example.value("tools", Json());
  options.extra = example.value("extra", Json::object());
  return options;
}

const Json kUser = Json::parse(R"([{"role": "user", "content": "Hi"}])");

std::string render(const std::string& source, const ChatRenderOptions& options = {}) {
  return ChatTemplate(source, "<s>", "</s>").render(kUser, options);
}

std::string failure(const std::string& source, ErrorCode expected) {
  try {
    render(source);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), expected) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no error was thrown: " << source;
  return "";
}

TEST(ChatTemplate, RendersAsTransformersDoes) {
  const Json cases = read_json("tests/text/fixtures/chat_cases.json");
  ASSERT_GT(cases.size(), 100u);
  for (const Json& example : cases) {
    SCOPED_TRACE(example["name"].get<std::string>());
    const Json& expected = example["expected"];
    try {
      const ChatTemplate chat(example["template"], "<s>", "</s>");
      const std::string text = chat.render(example["messages"], options_of(example));
      ASSERT_TRUE(expected.contains("text")) << "should have failed, gave: " << text;
      EXPECT_EQ(text, expected["text"].get<std::string>());
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument) << error.what();
      EXPECT_FALSE(expected.contains("text")) << error.what();
      if (expected.contains("raises")) {
        EXPECT_EQ(error.what(), expected["raises"].get<std::string>());
      }
    }
  }
}

TEST(ChatTemplate, TheDemosTemplateGivesTheGoldenPrompts) {
  const Json config = read_json("models/mlxr-demo/tokenizer_config.json");
  const ChatTemplate chat(config["chat_template"], "", config["eos_token"]);
  const Json golden = read_json("models/golden/mlxr-demo.json");
  int checked = 0;
  for (const Json& prompt : golden["prompts"]) {
    if (!prompt.contains("messages")) continue;
    ChatRenderOptions options;
    options.tools = prompt.value("tools", Json());
    EXPECT_EQ(chat.render(prompt["messages"], options), prompt["prompt"].get<std::string>());
    ++checked;
  }
  EXPECT_GT(checked, 0);
}

TEST(ChatTemplate, SyntaxErrorsNameTheLine) {
  const std::string message = failure("one\ntwo\n{% if %}\n", ErrorCode::kCorruptFile);
  EXPECT_NE(message.find("line 3"), std::string::npos) << message;
  failure("{{ 'open", ErrorCode::kCorruptFile);
  failure("{% for x in y %}", ErrorCode::kCorruptFile);
  failure("{% nonsense %}", ErrorCode::kCorruptFile);
}

TEST(ChatTemplate, FailuresWhileRenderingNameTheLine) {
  const std::string message =
      failure("one\n{{ messages[0].role.x.y }}", ErrorCode::kInvalidArgument);
  EXPECT_NE(message.find("line 2"), std::string::npos) << message;
  failure("{{ messages | no_such_filter }}", ErrorCode::kInvalidArgument);
  EXPECT_EQ(failure("{{ raise_exception('only you') }}", ErrorCode::kInvalidArgument), "only you");
  EXPECT_EQ(failure("{% macro m() %}{{ raise_exception('deep') }}{% endmacro %}{{ m() }}",
                    ErrorCode::kInvalidArgument),
            "deep");
}

TEST(ChatTemplate, HostileTemplatesEnd) {
  failure("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
          ErrorCode::kInvalidArgument);
  failure("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", ErrorCode::kInvalidArgument);
  std::string deep(100000, '(');
  EXPECT_THROW(render("{{ " + deep + " }}"), Error);
  EXPECT_THROW(render("{{ 'x' * 9999999999 }}"), Error);
}

TEST(ChatTemplate, StrftimeNowIsTheLocalTime) {
  for (int attempt = 0; attempt < 3; ++attempt) {
    const auto local = [] {
      const std::time_t now = std::time(nullptr);
      char text[64];
      std::strftime(text, sizeof text, "%d %b %Y %H:%M é", std::localtime(&now));
      return std::string(text);
    };
    const std::string before = local();
    const std::string rendered = render("{{ strftime_now('%d %b %Y %H:%M é') }}");
    if (before != local()) continue;  // the minute turned meanwhile
    EXPECT_EQ(rendered, before);
    return;
  }
  FAIL() << "the clock never stood still for one rendering";
}

TEST(ChatTemplate, KeepsTheOrderOfKeysAndBrokenTextDoesNotStopIt) {
  ChatRenderOptions options;
  options.extra = Json::parse(R"({"thing": {"z": 1, "a": {"y": 2, "b": 3}, "m": 4}})");
  EXPECT_EQ(render("{{ thing | tojson }}", options), R"({"z": 1, "a": {"y": 2, "b": 3}, "m": 4})");
  options.extra["thing"] =
      "a\xff"
      "b";
  EXPECT_EQ(render("{{ thing }}", options), "a\uFFFDb");
}

TEST(ChatTemplate, ExtraVariablesWin) {
  ChatRenderOptions options;
  options.extra = {{"bos_token", "<other>"}, {"answer", 42}};
  EXPECT_EQ(render("{{ bos_token }}{{ answer }}{{ eos_token }}", options), "<other>42</s>");
}

TEST(ChatTemplate, ManyThreadsAtOnceAgree) {
  const ChatTemplate chat("{% for m in messages %}{{ m.role }}{% endfor %}{{ n }}", "", "");
  std::vector<std::thread> threads;
  std::vector<int> wrong(4);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 200; ++i) {
        ChatRenderOptions options;
        options.extra = {{"n", t * 1000 + i}};
        wrong[t] += chat.render(kUser, options) != "user" + std::to_string(t * 1000 + i);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(4));
}

}  // namespace
}  // namespace mlxr::testing
