// How far ahead decode asks for weights. It reads each of them once, in one stream, and is limited
// by how many lines are on their way at a time.
#pragma once

#include <cstdint>

namespace mlxr::cpu {

// Bytes ahead of those that are multiplied; 0 leaves it to the processor's own prefetchers.
//
// Intel's stop at each page of 4 KiB and, with one stream, fetch too little ahead. Llama-1B, two
// threads of an Emerald Rapids server, tokens/s without and with 4 KiB ahead: Q4_0 18.4 and 27.1,
// Q4_K_M 18.0 and 24.3, Q8_0 15.5 and 19.9, F16 6.3 and 11.4 (512 bytes: 20.8, 18.3, 16.8, 7.6).
// On AMD's Zen 4 it made a bare loop slower at every distance: 29 GB/s to 19 to 27.
int64_t weight_prefetch();

}  // namespace mlxr::cpu
