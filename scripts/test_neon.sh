#!/usr/bin/env bash
# Builds the CPU kernels for 64-bit ARM with a cross compiler and runs their tests under QEMU, at every
# level that an ARM processor may have. Needs what scripts/setup.sh --dev installs on x86-64 Debian.
#
#   scripts/test_neon.sh [GTEST_ARGUMENT...]    JOBS=2 limits the compiler
#
# The results lie as JSON in $MLXR_TEST_RESULTS, or build/neon/results: a file for each level.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

BUILD=$ROOT/build/neon
RESULTS=${MLXR_TEST_RESULTS:-$BUILD/results}
COMPILER=aarch64-linux-gnu-g++
have "$COMPILER" && have qemu-aarch64 ||
  die "the cross compiler or QEMU is missing. Run: scripts/setup.sh --dev"
LAUNCHER=()
if have ccache; then LAUNCHER=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache); fi
step "Configuring $BUILD" cmake -S tests/neon -B "$BUILD" -G Ninja -DCMAKE_BUILD_TYPE=Release \
  -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
  -DCMAKE_C_COMPILER=aarch64-linux-gnu-gcc -DCMAKE_CXX_COMPILER="$COMPILER" \
  ${LAUNCHER[@]+"${LAUNCHER[@]}"}
step "Building $BUILD" cmake --build "$BUILD" ${JOBS:+-j "$JOBS"} --target mlxr-neon-tests

FAILED=0
# check PROCESSOR LEVEL [GTEST_ARGUMENT...]: on a processor that has at least the level.
check() {
  local processor=$1 level=$2
  shift 2
  rm -f "$RESULTS/$level-mlxr-neon-tests.json"
  say "== $level on $processor"
  MLXR_SIMD=$level qemu-aarch64 -cpu "$processor" "$BUILD/mlxr-neon-tests" --gtest_brief=1 \
    "--gtest_output=json:$RESULTS/$level-mlxr-neon-tests.json" "$@" || FAILED=1
}
# Attention is the same code at every level, and its comparisons of bits take minutes under QEMU: they
# run on x86, at three levels, and here AttentionInShort has a little of each, at every level.
BITS='Attention.*DoNotChangeBits:Attention.*DoesNotChangeBits:Attention.DecodePrefill*:Attention.*Windows*'
check cortex-a53 neon "--gtest_filter=-$BITS" "$@"
check neoverse-n1 neon-dotprod '--gtest_filter=-Attention.*:KvStore.*' "$@"
check max neon-i8mm '--gtest_filter=-Attention.*:KvStore.*' "$@"
exit "$FAILED"
