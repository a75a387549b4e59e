#!/usr/bin/env bash
# Runs further unmodified clients against the daemon: litellm, langchain, instructor, llm. They are
# large to install (450 MB), hence in a virtual environment of their own.
#
#   scripts/test_clients.sh [PYTEST_ARGUMENT...]      needs scripts/build.sh to have run
#
# MLXR_CLIENTS_VENV chooses their virtual environment (default build/clients-venv).
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

VENV=${MLXR_CLIENTS_VENV:-$ROOT/build/clients-venv}
STAMP=$VENV/.mlxr-setup
HASH=$(hash_of <tests/clients/requirements.txt)
if [ ! -f "$STAMP" ] || [ "$(cat "$STAMP")" != "$HASH" ]; then
  step "Making the virtual environment $VENV" fresh_venv "$VENV"
  step "Installing the clients" "$VENV/bin/pip" install --disable-pip-version-check \
    -r tests/clients/requirements.txt
  echo "$HASH" >"$STAMP"
fi
exec "$VENV/bin/python" -m pytest -q tests/clients "$@"
