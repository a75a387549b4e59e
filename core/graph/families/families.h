// Every family that this build runs; family.cpp lists them.
#pragma once

#include "core/graph/family.h"

namespace mlxr {

const Family& llama_family();
const Family& qwen2_family();

}  // namespace mlxr
