#include "tests/source_dir.h"

namespace mlxr::testing {

std::filesystem::path source_dir() { return MLXR_SOURCE_DIR; }

}  // namespace mlxr::testing
