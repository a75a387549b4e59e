#!/usr/bin/env bash
# Builds the unit tests with sanitizers and runs them.
#
#   scripts/sanitize.sh asan|tsan [GTEST ARGUMENT...]
#
# asan: AddressSanitizer and UndefinedBehaviorSanitizer; tsan: ThreadSanitizer.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

PRESET=${1:-}
case $PRESET in
  asan | tsan) shift ;;
  *) die "usage: scripts/sanitize.sh asan|tsan [GTEST ARGUMENT...]" ;;
esac
PROGRAMS=(mlxr-core-tests mlxr-daemon-tests)
"$ROOT/scripts/build.sh" "$PRESET" "${PROGRAMS[@]}"

SUPPRESSIONS=$ROOT/scripts/sanitizers
export ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1
export LSAN_OPTIONS=suppressions=$SUPPRESSIONS/lsan.txt:print_suppressions=0
export UBSAN_OPTIONS=print_stacktrace=1
export TSAN_OPTIONS=suppressions=$SUPPRESSIONS/tsan.txt:print_suppressions=0:second_deadlock_stack=1

# A quarter of the random mixes on a real model: they take half a minute each here, and among these
# are windows, adapters and drafts of both kinds.
LEFT_OUT=
for mix in 0 1 3 4 7 8 9 10 11; do LEFT_OUT+=":Seeds/ModelMix.*/$mix"; done
case $PRESET in
  tsan)
    # Arithmetic on one sequence takes minutes under ThreadSanitizer and shares nothing that
    # EngineOnQ8 and the other tests of Matmul and Attention do not.
    LEFT_OUT+=':Models/DemoGolden.*:Matmul.MatchesFloat64*:Attention.*MatchesFloat64*'
    LEFT_OUT+=':Attention.DecodePrefill*:Attention.T*:ContextShift/ShiftModes.*/0:ContextShift/ShiftModes.*/2'
    ;;
  asan)
    # The draft takes the same paths as the demo model in a tenth of the time.
    LEFT_OUT+=':Models/DemoGolden.*/0'
    ;;
esac
set -- "--gtest_filter=-${LEFT_OUT#:}" "$@"
# g++ 12's ThreadSanitizer cannot place its shadow where the kernel randomises addresses over more
# than 28 bits; without randomisation it always can.
RUNNER=()
if [ "$PRESET" = tsan ] && setarch "$(uname -m)" -R true 2>/dev/null; then
  RUNNER=(setarch "$(uname -m)" -R)
fi
status=0
for program in "${PROGRAMS[@]}"; do
  say "Running $program ($PRESET)"
  output=()
  if [ -n "${MLXR_TEST_RESULTS:-}" ]; then
    output=("--gtest_output=json:$MLXR_TEST_RESULTS/$PRESET-$program.json")
  fi
  ${RUNNER[@]+"${RUNNER[@]}"} "build/$PRESET/bin/$program" --gtest_brief=1 \
    ${output[@]+"${output[@]}"} "$@" || status=1
done
exit $status
