#!/usr/bin/env bash
# Fuzzes what reads other people's bytes: HTTP requests, JSON bodies, tool calls, model files. Builds
# the targets in tests/fuzz with clang, libFuzzer, AddressSanitizer and UndefinedBehaviorSanitizer.
#
#   scripts/fuzz.sh [SECONDS] [TARGET...]    SECONDS (60) are shared by the targets; all by default
#   scripts/fuzz.sh TARGET FILE...           runs only these inputs, to see again what was found
#
# What is found lies in build/fuzz/found; the corpus grows in build/fuzz/corpus, beside the seeds in
# tests/fuzz/corpus. JOBS limits compiler and targets at once (default: one a core). MLXR_FUZZ_SEED
# makes a run the same on every machine, as far as its time goes.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

BUILD=$ROOT/build/fuzz
SEEDS=$ROOT/tests/fuzz/corpus
JOBS=${JOBS:-$(getconf _NPROCESSORS_ONLN)}
ALL=(http_request json_bodies tool_parsers gguf safetensors)
CLANG=$(command -v clang++ || true)
[ -n "$CLANG" ] || die "clang was not found. Run: scripts/setup.sh --dev"

build() {
  if [ ! -f "$BUILD/build.ninja" ]; then
    step "Configuring $BUILD" cmake -S tests/fuzz -B "$BUILD" -G Ninja -DCMAKE_BUILD_TYPE=None \
      -DCMAKE_CXX_COMPILER="$CLANG" -DMLXR_VENV="$MLXR_VENV"
  fi
  step "Building $BUILD" cmake --build "$BUILD" -j "$JOBS" --target "${@/#/fuzz-}"
}

is_target() { [[ " ${ALL[*]} " == *" $1 "* ]]; }

if [ $# -ge 2 ] && is_target "$1"; then
  build "$1"
  target=$1
  shift
  exec "$BUILD/fuzz-$target" "$@"
fi

TOTAL=60
if [[ "${1:-}" =~ ^[0-9]+$ ]]; then
  TOTAL=$1
  shift
fi
TARGETS=("$@")
if [ ${#TARGETS[@]} -eq 0 ]; then TARGETS=("${ALL[@]}"); fi
for target in "${TARGETS[@]}"; do
  is_target "$target" || die "there is no target $target; the targets are: ${ALL[*]}"
done
build "${TARGETS[@]}"

export UBSAN_OPTIONS=print_stacktrace=1
SECONDS_EACH=$((TOTAL / ${#TARGETS[@]} > 0 ? TOTAL / ${#TARGETS[@]} : 1))
mkdir -p "$BUILD/found" "$BUILD/logs"
# Slow inputs count as found as well: 10 s is a thousand times what a body may take.
fuzz() {
  local target=$1 dictionary=()
  if [ -f "tests/fuzz/$target.dict" ]; then dictionary=("-dict=tests/fuzz/$target.dict"); fi
  mkdir -p "$BUILD/corpus/$target"
  "$BUILD/fuzz-$target" "-max_total_time=$SECONDS_EACH" -timeout=10 -rss_limit_mb=2048 \
    -max_len=4096 -print_final_stats=1 "-seed=${MLXR_FUZZ_SEED:-0}" "-artifact_prefix=$BUILD/found/$target-" \
    ${dictionary[@]+"${dictionary[@]}"} "$BUILD/corpus/$target" "$SEEDS/$target" \
    >"$BUILD/logs/$target.log" 2>&1 && echo ok >"$BUILD/logs/$target.status"
}

rm -f "$BUILD"/logs/*.status
for target in "${TARGETS[@]}"; do
  while [ "$(jobs -rp | wc -l)" -ge "$JOBS" ]; do wait -n || true; done
  fuzz "$target" &
done
wait || true

passed=0 failed=0
for target in "${TARGETS[@]}"; do
  log=$BUILD/logs/$target.log
  inputs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  if [ -f "$BUILD/logs/$target.status" ]; then
    passed=$((passed + 1))
    say "fuzz: $target stood $inputs inputs in $SECONDS_EACH s"
  else
    failed=$((failed + 1))
    tail -n 40 "$log" >&2
    say "fuzz: $target failed; run it again with scripts/fuzz.sh $target FILE (see $log)"
  fi
done
say "fuzz: $passed passed, $failed failed"
exit $((failed > 0))
