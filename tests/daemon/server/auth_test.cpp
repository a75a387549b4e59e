// Keys at rest, keys as a running daemon sees them, and who may do what.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "core/base/error.h"
#include "core/base/file.h"
#include "daemon/server/auth/authenticate.h"
#include "daemon/server/http/api_error.h"

namespace mlxr {
namespace {

namespace fs = std::filesystem;

class AuthTest : public ::testing::Test {
 protected:
  AuthTest() {
    fs::remove_all(home_);
    fs::create_directories(home_);
  }
  ~AuthTest() override { fs::remove_all(home_); }

  // What authenticate() answers: the key's id, "" for a caller without one, or the error's code.
  std::string outcome(const std::map<std::string, std::string>& headers, bool required,
                      bool is_unix_socket = false) {
    Request request;
    request.headers = headers;
    request.is_unix_socket = is_unix_socket;
    try {
      return authenticate(request, ring_, required).key_id;
    } catch (const RequestError& error) {
      return std::to_string(error.error().status) + " " + error.error().code;
    }
  }

  const fs::path home_ =
      fs::path(::testing::TempDir()) /
      ("mlxr-auth-" + std::string(::testing::UnitTest::GetInstance()->current_test_info()->name()));
  KeyStore store_{home_};
  KeyRing ring_{store_};
};

mode_t mode_of(const fs::path& path) {
  struct stat found {};
  EXPECT_EQ(::stat(path.c_str(), &found), 0);
  return found.st_mode & 0777;
}

ErrorCode code_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << "accepted";
  return ErrorCode::kInternal;
}

TEST_F(AuthTest, AStoreKeepsHashesOnlyInAPrivateFile) {
  EXPECT_TRUE(store_.list().empty());
  const NewKey made = store_.create("laptop", {true, false});
  EXPECT_TRUE(looks_like_key(made.secret));
  EXPECT_EQ(made.secret.size(), 5U + 64U);
  EXPECT_EQ(mode_of(store_.path()), 0600U);
  EXPECT_EQ(read_file(store_.path()).find(made.secret.substr(5)), std::string::npos);
  const std::vector<ApiKey> keys = store_.list();
  ASSERT_EQ(keys.size(), 1U);
  EXPECT_EQ(keys[0].id, made.key.id);
  EXPECT_EQ(keys[0].name, "laptop");
  EXPECT_EQ(keys[0].scopes, (Scopes{true, false}));
  EXPECT_GT(keys[0].created, 1700000000);
}

TEST_F(AuthTest, KeysDifferAndAreRemovedByNameOrId) {
  const NewKey a = store_.create("a", {true, false});
  const NewKey b = store_.create("", {true, true});
  const NewKey c = store_.create("", {true, true});
  EXPECT_NE(a.secret, b.secret);
  EXPECT_NE(b.key.id, c.key.id);
  EXPECT_EQ(store_.remove("a").id, a.key.id);
  EXPECT_EQ(store_.remove(b.key.id).id, b.key.id);
  ASSERT_EQ(store_.list().size(), 1U);
  EXPECT_EQ(store_.list()[0].id, c.key.id);
  for (const char* unknown : {"a", "", "key_"}) {
    EXPECT_EQ(code_of([&] { store_.remove(unknown); }), ErrorCode::kNotFound) << unknown;
  }
}

TEST_F(AuthTest, NamesAreTakenOnceAndPlain) {
  const NewKey made = store_.create("a", {true, false});
  for (const std::string& name :
       {std::string("a"), made.key.id, std::string("a\nb"), std::string(65, 'x')}) {
    EXPECT_EQ(code_of([&] { store_.create(name, {true, false}); }), ErrorCode::kInvalidArgument);
  }
  EXPECT_EQ(store_.list().size(), 1U);
}

TEST_F(AuthTest, KeysMadeAtTheSameTimeAllStay) {
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([this, i] { KeyStore(home_).create(std::to_string(i), {true, false}); });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(store_.list().size(), 8U);
}

TEST_F(AuthTest, ATornFileLetsNobodyInAndIsNotOverwritten) {
  const NewKey made = store_.create("", {true, true});
  EXPECT_EQ(ring_.find(made.secret)->id, made.key.id);
  const std::string whole = read_file(store_.path());
  for (const std::string& text :
       {std::string(), whole.substr(0, whole.size() / 2), std::string("{\"keys\": [{}]}"),
        std::string("{\"keys\": [3]}"), std::string("[]")}) {
    std::ofstream(store_.path()) << text;
    EXPECT_EQ(code_of([&] { (void)store_.list(); }), ErrorCode::kIo) << text;
    EXPECT_EQ(code_of([&] { (void)ring_.find(made.secret); }), ErrorCode::kIo) << text;
    EXPECT_EQ(outcome({{"x-api-key", made.secret}}, true), "500 keys_unreadable") << text;
    EXPECT_EQ(code_of([&] { store_.create("b", {true, true}); }), ErrorCode::kIo) << text;
    EXPECT_EQ(read_file(store_.path()), text);
  }
  std::ofstream(store_.path()) << whole;
  EXPECT_EQ(ring_.find(made.secret)->id, made.key.id);
}

TEST_F(AuthTest, AFileThatOthersCanOpenIsNotBelieved) {
  const NewKey made = store_.create("", {true, true});
  for (const mode_t mode : {0644U, 0620U, 0602U}) {
    ASSERT_EQ(::chmod(store_.path().c_str(), mode), 0);
    EXPECT_EQ(code_of([&] { (void)store_.list(); }), ErrorCode::kIo);
    EXPECT_EQ(outcome({{"x-api-key", made.secret}}, true), "500 keys_unreadable");
  }
  ASSERT_EQ(::chmod(store_.path().c_str(), 0600), 0);
  EXPECT_EQ(outcome({{"x-api-key", made.secret}}, true), made.key.id);
}

TEST_F(AuthTest, ARingSeesKeysComeAndGo) {
  EXPECT_TRUE(ring_.empty());
  const NewKey a = store_.create("a", {true, false});
  const NewKey b = store_.create("b", {false, true});
  EXPECT_FALSE(ring_.empty());
  EXPECT_EQ(ring_.find(b.secret)->scopes, (Scopes{false, true}));
  EXPECT_FALSE(ring_.find(a.secret + "0"));
  EXPECT_FALSE(ring_.find(""));
  store_.remove("a");
  EXPECT_FALSE(ring_.find(a.secret));
  EXPECT_TRUE(ring_.find(b.secret));
  fs::remove(store_.path());
  EXPECT_FALSE(ring_.find(b.secret));
}

TEST_F(AuthTest, WhatLooksLikeAKey) {
  const std::string digits(64, 'a');
  EXPECT_TRUE(looks_like_key("mlxr-" + digits));
  for (const std::string& text :
       {std::string(), std::string("none"), "mlxr-" + digits + "0", "mlxr-" + digits.substr(1),
        "mlxr-" + digits.substr(1) + "G", "sk-" + digits, digits}) {
    EXPECT_FALSE(looks_like_key(text)) << text;
  }
}

TEST_F(AuthTest, AKeyComesInEitherHeader) {
  const NewKey made = store_.create("", {true, false});
  for (const bool required : {false, true}) {
    EXPECT_EQ(outcome({{"x-api-key", made.secret}}, required), made.key.id);
    for (const char* scheme : {"Bearer ", "bearer ", "BEARER   "}) {
      EXPECT_EQ(outcome({{"authorization", scheme + made.secret}}, required), made.key.id);
    }
    EXPECT_EQ(outcome({{"x-api-key", made.secret}, {"authorization", "Bearer none"}}, required),
              made.key.id);
  }
}

TEST_F(AuthTest, WhereKeysAreRequiredNothingElsePasses) {
  const NewKey made = store_.create("", {true, false});
  const std::string missing = "401 missing_api_key", unknown = "401 invalid_api_key";
  EXPECT_EQ(outcome({}, true), missing);
  EXPECT_EQ(outcome({{"x-api-key", ""}}, true), missing);
  EXPECT_EQ(outcome({{"authorization", "Bearer "}}, true), missing);
  EXPECT_EQ(outcome({{"authorization", "Basic " + made.secret}}, true), missing);
  EXPECT_EQ(outcome({{"authorization", made.secret}}, true), missing);
  EXPECT_EQ(outcome({{"authorization", "Bearer none"}}, true), unknown);
  EXPECT_EQ(outcome({{"authorization", "Bearer " + made.key.sha256}}, true), unknown);
  EXPECT_EQ(outcome({{"x-api-key", made.key.id}}, true), unknown);
}

TEST_F(AuthTest, WhereNoneIsRequiredADummyIsNoKeyButARevokedKeyIsRefused) {
  const NewKey made = store_.create("", {true, false});
  store_.remove(made.key.id);
  for (const bool is_unix_socket : {false, true}) {
    EXPECT_EQ(outcome({}, is_unix_socket, is_unix_socket), "");
    EXPECT_EQ(outcome({{"authorization", "Bearer none"}}, is_unix_socket, is_unix_socket), "");
    EXPECT_EQ(outcome({{"x-api-key", made.secret}}, is_unix_socket, is_unix_socket),
              "401 invalid_api_key");
  }
}

TEST_F(AuthTest, ScopesOpenWhatTheyName) {
  const auto passes = [](const Scopes& scopes, Access access) {
    try {
      check_access({"key_1", scopes}, access);
      return true;
    } catch (const RequestError& error) {
      EXPECT_EQ(error.error().status, 403);
      EXPECT_EQ(error.error().code, "insufficient_scope");
      return false;
    }
  };
  for (const bool inference : {false, true}) {
    for (const bool admin : {false, true}) {
      EXPECT_TRUE(passes({inference, admin}, Access::kOpen));
      EXPECT_EQ(passes({inference, admin}, Access::kInference), inference);
      EXPECT_EQ(passes({inference, admin}, Access::kAdmin), admin);
    }
  }
}

TEST_F(AuthTest, ACallerWhomNobodyCheckedMayDoNothing) {
  EXPECT_THROW(check_access(Caller{}, Access::kInference), RequestError);
  EXPECT_THROW(check_access(Caller{}, Access::kAdmin), RequestError);
}

}  // namespace
}  // namespace mlxr
