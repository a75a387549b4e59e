// Which messages may be dropped, and that no more are than must be.
#include "daemon/server/truncation.h"

#include <gtest/gtest.h>

namespace mlxr {
namespace {

// "s" system, "u" user, "a" assistant, "c" assistant with a call, "t" a tool's result.
Json conversation(const std::string& roles) {
  Json messages = Json::array();
  for (const char role : roles) {
    const std::string name = role == 's'   ? "system"
                             : role == 'u' ? "user"
                             : role == 't' ? "tool"
                                           : "assistant";
    messages.push_back({{"role", name}, {"content", std::string(1, role)}});
    if (role == 'c') messages.back()["tool_calls"] = Json::array({{{"id", "x"}}});
  }
  return messages;
}

std::string roles(const Json& messages) {
  std::string text;
  for (const Json& message : messages) text += message["content"].get<std::string>();
  return text;
}

using Groups = std::vector<std::vector<size_t>>;

TEST(Truncation, WholeTurnsGoAndTheEndsStay) {
  EXPECT_EQ(droppable_messages(conversation("suauau")), (Groups{{1, 2}, {3, 4}}));
  EXPECT_EQ(droppable_messages(conversation("su")), Groups{});
  EXPECT_EQ(droppable_messages(conversation("u")), Groups{});
  EXPECT_EQ(droppable_messages(conversation("uu")), (Groups{{0}}));
  // A reply without a question belongs to the first turn; system messages stay wherever they are.
  EXPECT_EQ(droppable_messages(conversation("sausuau")), (Groups{{1}, {2}, {4, 5}}));
  // Calls and their results go with their turn.
  EXPECT_EQ(droppable_messages(conversation("ucttau")), (Groups{{0, 1, 2, 3, 4}}));
}

TEST(Truncation, AnAgentsRoundsGoBeforeItsTask) {
  EXPECT_EQ(droppable_messages(conversation("suauctcttct")), (Groups{{1, 2}, {4, 5}, {6, 7, 8}}));
  EXPECT_EQ(droppable_messages(conversation("uct")), Groups{});
  EXPECT_EQ(droppable_messages(conversation("uactct")), (Groups{{1}, {2, 3}}));
  EXPECT_EQ(droppable_messages(conversation("actct")), (Groups{{0}, {1, 2}}));  // nobody asked
}

TEST(Truncation, NoMoreGoesThanMust) {
  const Json messages = conversation("suauauau");
  for (size_t room = 0; room <= 9; ++room) {
    int tries = 0;
    const auto rest = truncate_messages(messages, [&](const Json& left) {
      ++tries;
      return left.size() <= room;
    });
    const std::string expected = room >= 8   ? "suauauau"
                                 : room >= 6 ? "suauau"
                                 : room >= 4 ? "suau"
                                             : "su";
    EXPECT_EQ(roles(rest.messages), expected) << room;
    EXPECT_EQ(rest.dropped, messages.size() - rest.messages.size());
    EXPECT_LE(tries, 3);
  }
}

}  // namespace
}  // namespace mlxr
