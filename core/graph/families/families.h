// Every family that this build runs; family.cpp lists them.
#pragma once

#include "core/graph/family.h"

namespace mlxr {

const Family& bert_family();
const Family& llama_family();
const Family& mistral_family();
const Family& qwen2_family();
const Family& qwen3_family();
const Family& gemma_family();
const Family& gemma2_family();
const Family& gemma3_family();
const Family& mixtral_family();
const Family& qwen2_moe_family();
const Family& qwen3_moe_family();
const Family& stablelm_family();
const Family& starcoder2_family();

}  // namespace mlxr
