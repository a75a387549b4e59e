#!/usr/bin/env bash
# Starts aider and open-webui, as they come from PyPI, against a running daemon, and checks what can be
# checked without a browser. For people: both are large (open-webui some GB), so no test runs this.
#
#   scripts/manual_clients.sh aider          asks about a file in a temporary git repository
#   scripts/manual_clients.sh open-webui     lists models and chats over its API; with --keep it stays
#                                            up, for a look with the browser
#
# MLXR_URL (http://127.0.0.1:11435) is the daemon, MLXR_MODEL (mlxr-demo) the model, MLXR_API_KEY its key
# where it wants one. The programs go to MLXR_CLIENTS_HOME (default ~/.cache/mlxr/clients), outside the
# source; MLXR_PYTHON is the Python that they are installed with (open-webui: 3.11 or 3.12).
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

URL=${MLXR_URL:-http://127.0.0.1:11435}
MODEL=${MLXR_MODEL:-mlxr-demo}
KEY=${MLXR_API_KEY:-none}
CLIENTS=${MLXR_CLIENTS_HOME:-${HOME:-/root}/.cache/mlxr/clients}
PYTHON=${MLXR_PYTHON:-python3}

curl -fsS "$URL/health" >/dev/null || die "no daemon answers on $URL. Run: mlx serve, or set MLXR_URL"

WORK=$(mktemp -d "${TMPDIR:-/tmp}/mlxr-clients.XXXXXX")
SERVER=
stop() {
  if [ -n "$SERVER" ]; then kill "$SERVER" 2>/dev/null && wait "$SERVER" 2>/dev/null || true; fi
  rm -rf "$WORK"
}
trap stop EXIT

# install NAME PACKAGE: a virtual environment for each, since their requirements disagree.
install() {
  local venv=$CLIENTS/$1
  if [ -x "$venv/bin/$1" ]; then return; fi
  mkdir -p "$CLIENTS"
  step "Making the virtual environment $venv" "$PYTHON" -m venv "$venv"
  step "Installing $2" "$venv/bin/pip" install --disable-pip-version-check "$2"
}

# How many chats the daemon has answered with status 200.
answered() {
  curl -fsS "$URL/metrics" | awk '/^mlxr_api_requests_total/ && /chat/ && /status="200"/ {n += $NF} END {print n + 0}'
}

run_aider() {
  install aider aider-chat
  local before
  before=$(answered)
  cd "$WORK"
  git init -q
  git config user.email nobody@localhost
  git config user.name nobody
  printf 'def add(a, b):\n    return a - b\n' >sums.py
  git add sums.py
  git commit -qm "A sum that is wrong"
  # As little as possible beside the question: small models have small windows.
  HOME=$WORK OPENAI_API_BASE=$URL/v1 OPENAI_API_KEY=$KEY "$CLIENTS/aider/bin/aider" \
    --model "openai/$MODEL" --message "add() must add. Correct it." --yes-always \
    --chat-mode "${MLXR_AIDER_MODE:-ask}" --map-tokens 0 --no-check-update --no-analytics \
    --no-show-model-warnings --no-detect-urls --no-pretty --no-suggest-shell-commands sums.py |
    tee "$WORK/aider.log" >&2
  grep -q 'Tokens: .* received' "$WORK/aider.log" || die "aider got no answer"
  [ "$(answered)" -gt "$before" ] || die "the daemon knows of no chat"
  say "aider: its question was answered by $MODEL"
}

json() { "$PYTHON" -c "import json, sys; $1"; }

run_open_webui() {
  install open-webui open-webui
  local port=8088 base token
  base=http://127.0.0.1:$port
  # It writes a secret key into the folder where it starts.
  (cd "$WORK" && exec env DATA_DIR=$WORK/webui WEBUI_AUTH=False OLLAMA_BASE_URL=$URL OPENAI_API_BASE_URL=$URL/v1 \
    OPENAI_API_KEY=$KEY ENABLE_PERSISTENT_CONFIG=False OFFLINE_MODE=True \
    "$CLIENTS/open-webui/bin/open-webui" serve --host 127.0.0.1 --port $port \
    >"$WORK/webui.log" 2>&1 &
  SERVER=$!
  say "open-webui is starting (its log: $WORK/webui.log)"
  for _ in $(seq 300); do
    if curl -fsS "$base/health" >/dev/null 2>&1; then break; fi
    kill -0 "$SERVER" 2>/dev/null || { tail -n 30 "$WORK/webui.log" >&2 && die "it ended"; }
    sleep 1
  done
  token=$(curl -fsS "$base/api/v1/auths/signin" -H 'Content-Type: application/json' \
    -d '{"email": "", "password": ""}' | json 'print(json.load(sys.stdin)["token"])')
  curl -fsS "$base/api/models" -H "Authorization: Bearer $token" |
    json "names = [m['id'] for m in json.load(sys.stdin)['data']]; print('models:', names); \
sys.exit(not any(n.startswith('$MODEL') for n in names))" >&2 || die "open-webui does not list $MODEL"
  curl -fsS "$base/api/chat/completions" -H "Authorization: Bearer $token" \
    -H 'Content-Type: application/json' \
    -d "{\"model\": \"$MODEL\", \"messages\": [{\"role\": \"user\", \"content\": \"Who are you?\"}]}" |
    json "print(json.load(sys.stdin)['choices'][0]['message']['content'])" >&2
  say "open-webui: it lists $MODEL and chats with it"
  if [ "${1:-}" = --keep ]; then
    say "open $base in a browser; Ctrl-C ends it"
    wait "$SERVER"
  fi
}

case "${1:-}" in
  aider) run_aider ;;
  open-webui) run_open_webui "${2:-}" ;;
  *) die "usage: scripts/manual_clients.sh aider|open-webui [--keep]" ;;
esac
