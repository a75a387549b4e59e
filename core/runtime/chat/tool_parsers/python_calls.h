// Calls written as Python: f(a=1, b="x"), g(c=[True, None]).
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace mlxr {

struct PythonCall {
  std::string name;
  std::string arguments;  // JSON object
  size_t begin = 0;       // in the text that was read
};

struct PythonCallsRead {
  std::vector<PythonCall> calls;
  size_t taken = 0;    // characters that the complete calls and what is between them took
  bool wrong = false;  // what follows `taken` can never become a call
};

// Reads calls until the text ends or something else follows. Calls may be separated by commas,
// white space and semicolons, and may stand in print(...).
PythonCallsRead read_python_calls(std::string_view text);

}  // namespace mlxr
