#!/usr/bin/env bash
# From a fresh clone to an answer: sets up, builds, and runs the built-in demo model.
#
#   scripts/run.sh "Tell me a story about a fox and a lantern"   streams the answer
#   scripts/run.sh                                               opens a chat
#
# Later runs start at once: they set up or build again only what changed.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

BUILT=$ROOT/build/release/.built
MLX=$ROOT/build/release/bin/mlx
SOURCES=(CMakeLists.txt CMakePresets.json cmake core proto daemon cli configs models/CMakeLists.txt
  models/mlxr-demo scripts/setup.sh)

changed() { (cd "$ROOT" && find "${SOURCES[@]}" -newer "$BUILT" -print -quit); }

if [ ! -f "$BUILT" ] || [ ! -x "$MLX" ] || [ -n "$(changed)" ]; then
  "$ROOT/scripts/setup.sh"
  mkdir -p "$ROOT/build/release"
  touch "$BUILT.start" # a file saved during the build is newer than this
  "$ROOT/scripts/build.sh" release mlx mlxrunnerd mlxr-models
  mv "$BUILT.start" "$BUILT"
  # A daemon from before the build would answer with the old program.
  "$MLX" stop --quiet
fi
# The daemon and the model come from this folder. With a prompt, standard input is left alone.
if [ $# -gt 0 ]; then exec "$MLX" run mlxr-demo "$@" </dev/null; fi
exec "$MLX" run mlxr-demo
