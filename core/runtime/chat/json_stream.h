// Passes one JSON value through while it arrives, and never lets anything out that could not be
// completed to valid JSON: a model's arguments reach the client as fragments, and no fragment can
// be taken back.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace mlxr {

class JsonStream {
 public:
  // Takes characters until the value is complete or broken; returns how many. What is certain goes
  // to `out`, without white space between tokens. Control characters inside strings are escaped,
  // and so are lone backslashes: models forget that.
  size_t push(std::string_view text, std::string& out);

  bool done() const { return state_ == State::kDone; }
  bool broken() const { return state_ == State::kBroken; }
  // Nothing but white space has come.
  bool empty() const { return state_ == State::kValue && open_.empty() && !began_; }

  // What must follow the output so far to make it a value. A member that was cut is left out, a
  // string that was cut ends there. Empty when nothing came out.
  std::string close();

 private:
  enum class State {
    kValue,       // a value must follow
    kFirstValue,  // after '[': a value or ']'
    kFirstKey,    // after '{': a key or '}'
    kKey,         // after ',' in an object
    kColon,
    kAfterValue,  // ',' or the end of what is open
    kString,
    kNumber,
    kLiteral,
    kDone,
    kBroken,
  };
  void take(char c, std::string& out);
  void take_value(char c, std::string& out);
  void take_in_string(char c, std::string& out);
  void take_escape(char c, std::string& out);
  void take_unicode(std::string& out);
  void take_after_value(char c, std::string& out);
  bool scalar_ends(char c, std::string& out);
  void end_value();
  void emit(std::string_view text, std::string& out);
  void to_string_output(std::string_view text, std::string& out);

  State state_ = State::kValue;
  std::vector<char> open_;  // '{' and '['
  std::string held_;        // comma, key and colon of a member whose value has not begun
  std::string scalar_;      // a number or literal so far
  std::string escape_;      // an escape so far, from its backslash
  std::string surrogate_;   // "\ud83d", waiting for its other half
  bool in_key_ = false;
  bool began_ = false;
};

}  // namespace mlxr
