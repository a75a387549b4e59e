"""A mlxrunnerd of one's own: started on a free port with a temporary home, stopped at the end."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "models"


def program():
    """The daemon under test: $MLXR_BIN (its folder, or the program), else the Release build."""
    chosen = Path(os.environ.get("MLXR_BIN", ROOT / "build/release/bin"))
    return chosen / "mlxrunnerd" if chosen.is_dir() else chosen


def clean_environment(home):
    """The environment without this machine's MLXR settings, but for the SIMD choice."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("MLXR_") or k == "MLXR_SIMD"}
    return {**kept, "MLXR_HOME": str(home)}


class RunningDaemon:
    def __init__(self, *arguments, home=None, environment=None, wait=True):
        # Short, because a Unix socket's path holds about a hundred bytes.
        self.home = Path(home or tempfile.mkdtemp(prefix="mlxr-wire-"))
        self.owns_home = home is None
        self.log = self.home / "test.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [str(program()), "--port", "0", *map(str, arguments)],
                env={**clean_environment(self.home), **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.port = self.address = None
        if wait:
            self.wait_until_ready()

    def wait_until_ready(self, seconds=30):
        address = self.home / "daemon.json"
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"exit {self.process.returncode}: {self.text()}")
            if address.exists():
                said = json.loads(address.read_text())
                if said["pid"] == self.process.pid:
                    self.port = said["port"]
                    self.address = said
                    return
            time.sleep(0.02)
        raise RuntimeError(f"not ready: {self.text()}")

    @property
    def url(self):
        scheme = "https" if self.address.get("tls") else "http"
        return f"{scheme}://127.0.0.1:{self.port}"

    @property
    def socket(self):
        return self.home / "mlxr.sock"

    def text(self):
        return self.log.read_text()

    def client(self, **options):
        return httpx.Client(base_url=self.url, timeout=120, **options)

    def unix_client(self):
        transport = httpx.HTTPTransport(uds=str(self.socket))
        return httpx.Client(base_url="http://mlxr", transport=transport, timeout=120)

    def ps(self):
        with self.client() as client:
            return client.get("/mlxr/v1/ps").json()["models"]

    def wait_until_quiet(self, seconds=5):
        """Returns how long it took until nothing runs or waits."""
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            if all(m["running"] == 0 and m["waiting"] == 0 for m in self.ps()):
                return time.monotonic() - began
            time.sleep(0.02)
        raise AssertionError(f"still busy: {self.ps()}")

    def wait_until_running(self, count=1, seconds=20):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if sum(m["running"] for m in self.ps()) >= count:
                return
            time.sleep(0.01)
        raise AssertionError(f"never busy: {self.ps()}")

    def wait_for_log(self, text, seconds=5):
        deadline = time.monotonic() + seconds
        while text not in self.text():
            assert time.monotonic() < deadline, self.text()
            time.sleep(0.02)

    def terminate(self, seconds=60):
        """SIGTERM; returns the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.owns_home:
            shutil.rmtree(self.home, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def chat_body(text, **fields):
    return {"messages": [{"role": "user", "content": text}], "temperature": 0, **fields}


def endless(**fields):
    """A completion that fills the whole context window, so that there is time to interfere."""
    return {"prompt": "Once upon a time", "temperature": 0, "ignore_eos": True, **fields}


def events_of(response):
    """The data of a server-sent event stream, JSON read, with "[DONE]" as text."""
    for line in response.iter_lines():
        if line.startswith("data: "):
            data = line[len("data: ") :]
            yield data if data == "[DONE]" else json.loads(data)


def events_when_ended(client, max_tokens, end):
    """The events of a stream during which `end` is called, at the first of them."""
    body = endless(stream=True, max_tokens=max_tokens)
    with client.stream("POST", "/v1/completions", json=body) as answer:
        events = []
        for event in events_of(answer):
            if not events:
                end()
            events.append(event)
    return events
