#!/usr/bin/env bash
# Uses a daemon hard for a long time: several models that load and unload, random lengths, cancels,
# KV blocks on disk. Fails when its memory is not flat or an answer differs.
#
#   scripts/soak.sh [--minutes 30] [--clients 8] [--seed 1]      needs scripts/build.sh to have run
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

exec "${MLXR_TEST_VENV:-$ROOT/build/test-venv}/bin/python" tests/soak/soak.py "$@"
