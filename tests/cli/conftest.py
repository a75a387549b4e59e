"""Every test has a home of its own; its daemon, started by the command line, ends with it."""

import http.server
import json
import os
import shutil
import socketserver
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pexpect
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests/wire"))  # for random_adapter
BIN = Path(os.environ.get("MLXR_BIN", ROOT / "build/release/bin"))


class CommandLine:
    def __init__(self, home):
        self.home = home
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("MLXR_")}
        self.environment.update(MLXR_HOME=str(home), MLXR_PORT="0", TERM="xterm", LC_ALL="C.UTF-8")

    def run(self, *arguments, stdin="", check=True):
        done = subprocess.run(
            [BIN / "mlx", *map(str, arguments)],
            input=stdin,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        if check:
            assert done.returncode == 0, done.stderr
        return done

    def chat(self, *arguments):
        """An interactive chat on a terminal, past its greeting."""
        child = pexpect.spawn(
            str(BIN / "mlx"),
            ["run", *map(str, arguments)],
            env=self.environment,
            encoding="utf-8",
            timeout=30,
            dimensions=(40, 200),
        )
        child.expect_exact(">>> ")
        return child


@pytest.fixture
def mlx():
    # Short, because a Unix socket's path holds about a hundred bytes.
    home = Path(tempfile.mkdtemp(prefix="mlxr-cli-"))
    command_line = CommandLine(home)
    yield command_line
    command_line.run("stop", "--quiet")
    shutil.rmtree(home, ignore_errors=True)


class FakeDaemon(socketserver.ThreadingUnixStreamServer):
    """Says one thing, whatever it is asked: for what no real model can be made to say."""

    daemon_threads = True

    def __init__(self, path, answer):
        super().__init__(str(path), FakeHandler)
        self.answer = answer


class FakeHandler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def address_string(self):
        return "unix"

    def reply(self, body, kind="application/json"):
        data = body.encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        self.reply(json.dumps({"status": "ok", "chat_template": "{{ messages }}"}))

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/v1/chat/completions":
            chunk = {"choices": [{"delta": {"content": self.server.answer}, "index": 0}]}
            self.reply(f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n", "text/event-stream")
        else:
            self.reply(json.dumps({"name": "any-model"}))


@pytest.fixture
def fake_daemon(mlx):
    servers = []

    def start(answer):
        server = FakeDaemon(mlx.home / "mlxr.sock", answer)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
        (mlx.home / "mlxr.sock").unlink()
