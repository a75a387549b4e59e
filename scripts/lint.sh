#!/usr/bin/env bash
# Formatting and static checks; any finding fails.
#
#   scripts/lint.sh          every check
#   scripts/lint.sh --fix    rewrites what the formatters would
#
# clang-tidy needs what scripts/build.sh makes.
set -uo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT" || exit 1

RUFF=${MLXR_TEST_VENV:-$ROOT/build/test-venv}/bin/ruff
CRATE=core/runtime/text-ffi
# Files of the tree as they are now, new ones included.
files() { git ls-files -co --exclude-standard -- "$@" | while read -r f; do [ -f "$f" ] && echo "$f"; done; }
mapfile -t CPP < <(files '*.h' '*.cpp')

if [ "${1:-}" = --fix ]; then
  clang-format -i "${CPP[@]}"
  cargo fmt --manifest-path $CRATE/Cargo.toml
  "$RUFF" format .
  "$RUFF" check --fix .
  exit
fi

[ $# -eq 0 ] || die "usage: scripts/lint.sh [--fix]"

passed=0 failed=0
check() {
  local name=$1
  shift
  if "$@"; then
    passed=$((passed + 1))
    say "lint: $name is clean"
  else
    failed=$((failed + 1))
    say "lint: $name found something"
  fi
}

# Each file is compiled once more by clang-tidy; a few at a time, one process a core. Without
# daemon/server: Debian 12's clang (14) does not see the coroutines of its Boost.
tidy() {
  local units
  # clang cannot read g++'s precompiled headers: every file includes what it needs anyway.
  cmake --preset release -B build/lint -DMLXR_PRECOMPILE=OFF >/dev/null
  mapfile -t units < <(files 'core/*.cpp' 'daemon/*.cpp' 'cli/*.cpp' | grep -v '^daemon/server/')
  printf '%s\n' "${units[@]}" |
    xargs -P "$(getconf _NPROCESSORS_ONLN)" -n 4 \
      clang-tidy -p build/lint --quiet --warnings-as-errors='*' \
      2> >(grep -v ' warnings\? generated' >&2)
}

check clang-format clang-format --dry-run -Werror "${CPP[@]}"
check clang-tidy tidy
check rustfmt cargo fmt --check --manifest-path $CRATE/Cargo.toml
check clippy env CARGO_TARGET_DIR="$ROOT/build/cargo" \
  cargo clippy --release --locked --all-targets --manifest-path $CRATE/Cargo.toml -- -D warnings
check 'ruff format' "$RUFF" format --check .
check ruff "$RUFF" check .
say "lint: $passed passed, $failed failed"
exit $((failed > 0))
