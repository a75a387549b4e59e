// Which fields a reader looks for: what the description of the API is held against in tests.
#pragma once

#include <set>
#include <string>

namespace mlxr {

// While it lives, notes what Fields are asked for on this thread. Not nested.
class FieldLog {
 public:
  FieldLog();
  ~FieldLog();
  FieldLog(const FieldLog&) = delete;
  FieldLog& operator=(const FieldLog&) = delete;

  // "messages[].role": without indexes.
  const std::set<std::string>& paths() const { return paths_; }

  // Called by Fields.
  static void note(const std::string& path);

  // While it lives, nothing is noted: for fields that are looked for only to be refused, and for
  // the second reading of a body that was translated.
  class Pause {
   public:
    Pause();
    ~Pause();
    Pause(const Pause&) = delete;
    Pause& operator=(const Pause&) = delete;

   private:
    FieldLog* paused_;
  };

 private:
  std::set<std::string> paths_;
};

}  // namespace mlxr
