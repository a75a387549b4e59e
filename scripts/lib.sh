# Shared by the scripts in this folder: where things are, and how a long step shows its progress.
# Sourced, never run. Everything is said on standard error: standard output belongs to the program.
# shellcheck shell=bash

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export MLXR_VENV=${MLXR_VENV:-$ROOT/.venv}
CARGO_BIN=${CARGO_HOME:-${HOME:-/root}/.cargo}/bin
if [ -d "$CARGO_BIN" ]; then PATH=$CARGO_BIN:$PATH; fi
export PATH

# A compiler cache, where there is one, serves every clone: what a path below this one is called does
# not matter to it.
export CCACHE_BASEDIR=${CCACHE_BASEDIR:-$ROOT} CCACHE_NOHASHDIR=${CCACHE_NOHASHDIR:-1}

say() { printf '%s\n' "$*" >&2; }
die() {
  say "error: $*"
  exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# step LABEL COMMAND...: one line that shows the label and how long it has taken. The command's
# output goes to a log, whose end is shown when the command fails.
step() {
  local label=$1 log status=0 start=$SECONDS pid
  shift
  log=$(mktemp "${TMPDIR:-/tmp}/mlxr-step.XXXXXX")
  if [ -t 2 ]; then
    "$@" >"$log" 2>&1 </dev/null &
    pid=$!
    while kill -0 "$pid" 2>/dev/null; do
      printf '\r%s ... %d s ' "$label" $((SECONDS - start)) >&2
      sleep 0.2
    done
    wait "$pid" || status=$?
    printf '\r\033[K' >&2
  else
    say "$label ..."
    "$@" >"$log" 2>&1 </dev/null || status=$?
  fi
  if [ "$status" -eq 0 ]; then
    say "$label: done in $((SECONDS - start)) s"
  else
    tail -n 40 "$log" >&2
    say "$label: failed with status $status (the whole output: $log)"
    return "$status"
  fi
  rm -f "$log"
}

# Runs a command as root, through sudo when need be.
as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif have sudo; then
    sudo "$@"
  else
    die "root is needed to run: $*. Run it yourself as root, or install sudo, then try again."
  fi
}

# at_least A B: true when version A is B or newer.
at_least() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$2" ]; }

hash_of() {
  if have sha256sum; then sha256sum; else shasum -a 256; fi | cut -d ' ' -f 1
}

# fresh_venv FOLDER: makes a virtual environment there unless a working one is there already.
fresh_venv() {
  if "$1/bin/python" -c 'import pip' >/dev/null 2>&1; then return; fi
  rm -rf "$1"
  python3 -m venv "$1"
}
