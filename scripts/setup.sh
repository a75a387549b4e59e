#!/usr/bin/env bash
# Installs what MLXR is built with: system packages, cargo, and a virtual environment with MLX's
# wheel. Installs only what is missing; once done, it returns at once and touches no network.
#
#   scripts/setup.sh          what building and running need
#   scripts/setup.sh --dev    also what scripts/test.sh needs: linters and the Python test packages
#
# Debian 12 or newer (apt, as root or with sudo), or macOS with Homebrew (written, not yet run).
# MLXR_VENV chooses the virtual environment (default .venv), MLXR_TEST_VENV that of the tests.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

MLX_VERSION='0.32.*'
DEBIAN_PACKAGES=(build-essential cmake ninja-build pkg-config python3 python3-venv git
  ca-certificates libboost-dev libhwy-dev libyaml-cpp-dev libcli11-dev libspdlog-dev libfmt-dev
  nlohmann-json3-dev libcurl4-openssl-dev libssl-dev libedit-dev libgtest-dev
  libgrpc++-dev libprotobuf-dev protobuf-compiler-grpc)
DEBIAN_DEV_PACKAGES=(clang clang-format clang-tidy libbenchmark-dev)
DEBIAN_NEON_PACKAGES=(g++-aarch64-linux-gnu qemu-user googletest) # scripts/test_neon.sh
BREW_PACKAGES=(cmake ninja pkg-config python boost highway yaml-cpp cli11 spdlog fmt nlohmann-json
  googletest grpc protobuf openssl)
BREW_DEV_PACKAGES=(clang-format llvm google-benchmark)

DEV=no
case "${1:-}" in
  '') ;;
  --dev) DEV=yes ;;
  *) die "unknown argument $1; usage: scripts/setup.sh [--dev]" ;;
esac
TEST_VENV=${MLXR_TEST_VENV:-$ROOT/build/test-venv}
RUST_VERSION=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$ROOT/core/runtime/text-ffi/Cargo.toml")

# The stamp says which inputs were installed; a change to any of them installs again.
STAMP=$MLXR_VENV/.mlxr-setup
inputs() {
  cat "$ROOT/scripts/setup.sh" "$ROOT/scripts/lib.sh" "$ROOT/tests/requirements.txt" \
    "$ROOT/tests/wire/node/package-lock.json"
  uname -sm
  echo "$RUST_VERSION $TEST_VENV"
}
HASH=$(inputs | hash_of)
done_before() {
  [ -f "$STAMP" ] && [ "$(head -n 1 "$STAMP")" = "$HASH" ] || return 1
  have cmake && have ninja && have cargo || return 1
  [ "$DEV" = no ] || { grep -qx dev "$STAMP" && [ -x "$TEST_VENV/bin/pytest" ]; }
}
if done_before; then exit 0; fi

install_debian() {
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' ||
      missing+=("$package")
  done
  if [ ${#missing[@]} -eq 0 ]; then return; fi
  [ "$(id -u)" -eq 0 ] || have sudo ||
    die "these packages are missing: ${missing[*]}. Run as root: apt-get install ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  step "Reading Debian's package lists" as_root apt-get update
  step "Installing ${#missing[@]} system packages" \
    as_root apt-get install -y --no-install-recommends "${missing[@]}"
}

install_brew() {
  have brew || die "Homebrew was not found; install it from https://brew.sh, then try again"
  local missing=() package
  for package in "$@"; do
    brew list --formula "$package" >/dev/null 2>&1 || missing+=("$package")
  done
  if [ ${#missing[@]} -gt 0 ]; then
    step "Installing ${#missing[@]} Homebrew packages" brew install "${missing[@]}"
  fi
}

cargo_version() { cargo --version 2>/dev/null | cut -d ' ' -f 2; }

# Debian 12 keeps a current Rust beside its old one, for its browsers: cargo-web.
install_cargo() {
  if have cargo && at_least "$(cargo_version)" "$RUST_VERSION"; then return; fi
  if have cargo && have rustup; then
    die "cargo $(cargo_version) is too old (needs $RUST_VERSION). Run: rustup update stable"
  fi
  case $SYSTEM in
    Darwin) install_brew rust ;;
    Linux)
      if ! apt-cache show cargo-web >/dev/null 2>&1; then
        step "Reading Debian's package lists" as_root apt-get update
      fi
      if apt-cache show cargo-web >/dev/null 2>&1; then
        install_debian cargo-web
      else
        install_debian cargo
      fi
      ;;
  esac
  hash -r
  have cargo && at_least "$(cargo_version)" "$RUST_VERSION" ||
    die "cargo $(cargo_version) is too old (needs $RUST_VERSION). Install Rust from https://rustup.rs, then try again."
}

install_rust_linters() {
  if cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1; then return; fi
  if have rustup; then
    step "Installing rustfmt and clippy" rustup component add rustfmt clippy
  elif [ "$SYSTEM" = Linux ]; then
    install_debian rustfmt-web rust-web-clippy
  fi
}

install_mlx() {
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    die "python3 is $(python3 --version); MLX's wheel needs Python 3.10 or newer"
  local wheel="mlx[cpu]==$MLX_VERSION"
  if [ "$SYSTEM" = Darwin ]; then wheel="mlx==$MLX_VERSION"; fi
  if compgen -G "$MLXR_VENV/lib/python3*/site-packages/mlx-${MLX_VERSION}.dist-info" >/dev/null; then
    return
  fi
  step "Making the virtual environment $MLXR_VENV" fresh_venv "$MLXR_VENV"
  step "Installing $wheel" "$MLXR_VENV/bin/pip" install --disable-pip-version-check "$wheel"
}

# libFuzzer and the sanitizers of Debian's clang come apart from it, under its version.
install_fuzzer() {
  install_debian "libclang-rt-$(clang -dumpversion | cut -d . -f 1)-dev"
}

install_test_packages() {
  step "Making the test environment $TEST_VENV" fresh_venv "$TEST_VENV"
  step "Installing the test packages" "$TEST_VENV/bin/pip" install --disable-pip-version-check \
    -r "$ROOT/tests/requirements.txt"
  install_node_clients
}

# The clients that tests/wire/node runs, with the Node that pip brought.
install_node_clients() {
  mkdir -p "$TEST_VENV/node"
  cp "$ROOT"/tests/wire/node/package*.json "$TEST_VENV/node/"
  step "Installing the clients for Node" env "PATH=$TEST_VENV/bin:$PATH" \
    npm ci --no-audit --no-fund --prefix "$TEST_VENV/node"
}

SYSTEM=$(uname -s)
case $SYSTEM in
  Linux)
    have apt-get || die "this script installs with apt-get (Debian 12 or newer) or Homebrew (macOS).
On another system, install by hand what scripts/setup.sh lists, then run scripts/build.sh."
    install_debian "${DEBIAN_PACKAGES[@]}"
    if [ "$DEV" = yes ]; then
      if [ "$(uname -m)" = x86_64 ]; then DEBIAN_DEV_PACKAGES+=("${DEBIAN_NEON_PACKAGES[@]}"); fi
      install_debian "${DEBIAN_DEV_PACKAGES[@]}"
      install_fuzzer
    fi
    ;;
  Darwin)
    install_brew "${BREW_PACKAGES[@]}"
    if [ "$DEV" = yes ]; then install_brew "${BREW_DEV_PACKAGES[@]}"; fi
    ;;
  *) die "MLXR runs on Linux and macOS, not on $SYSTEM" ;;
esac
install_cargo
install_mlx
if [ "$DEV" = yes ]; then
  install_rust_linters
  install_test_packages
fi
{
  echo "$HASH"
  if [ "$DEV" = yes ]; then echo dev; fi
} >"$STAMP"
