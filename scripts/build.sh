#!/usr/bin/env bash
# Builds a preset of CMakePresets.json, Release unless another is named.
#
#   scripts/build.sh [release|debug|asan|tsan] [TARGET...]
#
# Programs land in build/PRESET/bin. Needs scripts/setup.sh to have run once.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

PRESET=${1:-release}
shift || true
BUILD=build/$PRESET
if [ ! -f "$BUILD/build.ninja" ]; then
  step "Configuring $BUILD" cmake --preset "$PRESET"
fi
say "Building $BUILD"
export NINJA_STATUS='[%f/%t %es] '
TARGETS=()
if [ $# -gt 0 ]; then TARGETS=(--target "$@"); fi
cmake --build "$BUILD" ${JOBS:+-j "$JOBS"} ${TARGETS[@]+"${TARGETS[@]}"} >&2
