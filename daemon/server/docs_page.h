// The page at /docs: shows /openapi.json to people. It loads nothing from elsewhere.
#pragma once

#include "daemon/server/http/message.h"

namespace mlxr {

Response docs_page();

}  // namespace mlxr
