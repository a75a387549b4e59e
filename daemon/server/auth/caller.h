// Who sent a request, and what they may do.
#pragma once

#include <string>

namespace mlxr {

struct Scopes {
  bool inference = false;  // ask models, and see which there are
  bool admin = false;      // unload and delete models, end the daemon

  bool operator==(const Scopes&) const = default;
};

struct Caller {
  std::string key_id;   // empty: no key was needed
  Scopes scopes;        // none, until authenticate() grants some
  std::string address;  // Request::peer

  // With whom others share the machine evenly: those who hold one key, else one address.
  std::string client() const { return key_id.empty() ? "@" + address : key_id; }
};

}  // namespace mlxr
