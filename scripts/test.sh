#!/usr/bin/env bash
# Runs every test. Sets up and builds first; a fresh clone on a bare Debian 12 is enough.
#
#   scripts/test.sh              everything
#   scripts/test.sh SUITE...     only these: core avx2 generic neon daemon text-ffi parity pytest clients
#                                scores lint asan tsan fuzz (neon: on x86-64 Linux, in QEMU)
#
# The last lines say what each suite counted and, at the very end, how many passed and failed.
# Results and logs lie in build/test-results.
set -uo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT" || exit 1

ALL=(core avx2 generic daemon text-ffi parity pytest clients scores lint asan tsan fuzz)
if [ "$(uname -sm)" = 'Linux x86_64' ]; then ALL+=(neon); fi
SUITES=("$@")
if [ ${#SUITES[@]} -eq 0 ]; then SUITES=("${ALL[@]}"); fi
for name in "${SUITES[@]}"; do
  [[ " ${ALL[*]} " == *" $name "* ]] || die "there is no suite $name; the suites are: ${ALL[*]}"
done

RESULTS=$ROOT/build/test-results
rm -rf "$RESULTS"
mkdir -p "$RESULTS"
export MLXR_TEST_RESULTS=$RESULTS
BIN=$ROOT/build/release/bin
TEST_PYTHON=${MLXR_TEST_VENV:-$ROOT/build/test-venv}/bin/python
# Tests never see or touch what the user of this machine keeps in ~/.mlxr.
MLXR_HOME=$(mktemp -d "${TMPDIR:-/tmp}/mlxr-test.XXXXXX")
export MLXR_HOME
trap 'rm -rf "$MLXR_HOME"' EXIT
for variable in $(compgen -e MLXR_); do
  case $variable in
    MLXR_HOME | MLXR_VENV | MLXR_TEST_VENV | MLXR_TEST_RESULTS) ;;
    *) unset "$variable" ;;
  esac
done

# run SUITE COMMAND...: the output goes to the terminal and to the suite's log; the exit status is
# kept beside it for scripts/tally.py.
run() {
  local suite=$1 start=$SECONDS
  shift
  say "=== $suite"
  "$@" 2>&1 </dev/null | tee "$RESULTS/$suite.log"
  echo "${PIPESTATUS[0]} $((SECONDS - start))" >"$RESULTS/$suite.status"
}

gtest() { "$BIN/$1" --gtest_brief=1 "--gtest_output=json:$RESULTS/release-$1.json"; }

suite_core() { gtest mlxr-core-tests; }
# The kernels again at the instruction sets that this machine would not choose.
simd() {
  local kernels='SimdLevel.*:Matmul.*:Quantize*:EngineOnQ8.*:Attention*.*:KvStore.*:Rope.*:TopK.*:Softmax.*'
  kernels+=':Activation.*:Norm.*:Elementwise.*:MoeRouting.*:*/Moe.*:*/LowRank.*:*/SpecialNumbers.*:RowOps.*'
  MLXR_SIMD=$1 "$BIN/mlxr-core-tests" --gtest_brief=1 "--gtest_filter=$kernels" \
    "--gtest_output=json:$RESULTS/$1-mlxr-core-tests.json"
}
suite_avx2() { simd avx2; }
suite_generic() { simd generic; }
suite_neon() { scripts/test_neon.sh; }
suite_daemon() { gtest mlxr-daemon-tests; }
suite_text-ffi() {
  CARGO_TARGET_DIR=$ROOT/build/cargo cargo test --release --locked \
    --manifest-path core/runtime/text-ffi/Cargo.toml
}
suite_parity() { "$BIN/mlxr-parity" tests/goldens; }
suite_pytest() {
  MLXR_BIN=$BIN "$TEST_PYTHON" -m pytest -q -ra --durations=5 \
    "--junitxml=$RESULTS/pytest.xml" tests/wire tests/cli tests/text
}
suite_clients() { MLXR_BIN=$BIN scripts/test_clients.sh -ra "--junitxml=$RESULTS/clients.xml"; }
suite_scores() {
  MLXR_BIN=$BIN "$TEST_PYTHON" -m pytest -q -ra "--junitxml=$RESULTS/scores.xml" tests/scores
}
suite_lint() { scripts/lint.sh; }
suite_asan() { scripts/sanitize.sh asan; }
suite_tsan() { scripts/sanitize.sh tsan; }
# The same inputs each time, or a commit could fail for what an older one did.
suite_fuzz() { MLXR_FUZZ_SEED=1 scripts/fuzz.sh 60; }

run setup scripts/setup.sh --dev
if [ "$(cut -d ' ' -f 1 "$RESULTS/setup.status")" = 0 ]; then
  run build scripts/build.sh release
fi
if [ "$(cut -d ' ' -f 1 "$RESULTS/build.status" 2>/dev/null)" = 0 ]; then
  for name in "${SUITES[@]}"; do run "$name" "suite_$name"; done
fi

say "=== totals"
exec python3 scripts/tally.py "$RESULTS" "${SUITES[@]}"
