"""A stream that waits for a load: headers and pings come, then the answer or why there is none."""

import json
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from running_daemon import MODELS

MESSAGES = [{"role": "user", "content": "Hello"}]
CHAT = {"model": "slow", "messages": MESSAGES, "stream": True, "max_tokens": 4}
ROUTES = {
    "/v1/chat/completions": CHAT,
    "/v1/responses": {"model": "slow", "input": "Hello", "stream": True, "max_output_tokens": 16},
    "/v1/messages": CHAT,
    "/api/chat": {"model": "slow", "messages": MESSAGES, "options": {"num_predict": 4}},
}
PINGS = {
    "/v1/chat/completions": ": ping",
    "/v1/responses": ": ping",
    "/v1/messages": "event: ping",
    "/api/chat": '"content":""',
}


@pytest.fixture
def slow(start, tmp_path):
    """A daemon whose model cannot be loaded before its tokenizer is written into a pipe."""
    folder = tmp_path / "models" / "slow"
    shutil.copytree(MODELS / "mlxr-demo", folder)
    pipe = folder / "tokenizer.json"
    pipe.unlink()
    os.mkfifo(pipe)
    daemon = start("--model-folders", tmp_path / "models")

    def load(text):
        pipe.write_text(text)

    daemon.finish_loading = load
    yield daemon
    daemon.process.kill()


def lines_of(daemon, path, pinged):
    """The lines of the route's stream; `pinged` counts those that wait for the model."""
    with daemon.client() as client, client.stream("POST", path, json=ROUTES[path]) as answer:
        assert answer.status_code == 200
        lines = (line for line in answer.iter_lines() if line)
        assert PINGS[path] in next(lines)
        pinged.release()
        return list(lines)


def wait_and_load(daemon, pinged, text):
    for _ in ROUTES:
        assert pinged.acquire(timeout=20)
    daemon.finish_loading(text)


def test_headers_and_pings_come_before_the_model(slow):
    pinged = threading.Semaphore(0)
    with ThreadPoolExecutor() as threads:
        answers = {path: threads.submit(lines_of, slow, path, pinged) for path in ROUTES}
        wait_and_load(slow, pinged, (MODELS / "mlxr-demo" / "tokenizer.json").read_text())
    last = {path: answer.result()[-1] for path, answer in answers.items()}
    assert last["/v1/chat/completions"] == "data: [DONE]"
    assert '"type":"response.' in last["/v1/responses"]
    assert "message_stop" in last["/v1/messages"]
    assert '"done":true' in last["/api/chat"]


def test_a_load_that_fails_says_so_in_the_stream_or_as_a_status(slow):
    pinged = threading.Semaphore(0)
    with slow.client() as client, ThreadPoolExecutor() as threads:
        answers = [threads.submit(lines_of, slow, path, pinged) for path in ROUTES]
        whole = threads.submit(client.post, "/v1/chat/completions", json=CHAT | {"stream": False})
        wait_and_load(slow, pinged, "{}")
    for answer in answers:
        errors = [line for line in answer.result() if "tokenizer.json" in line]
        assert "error" in json.loads(errors[-1].removeprefix("data: "))
    assert whole.result().status_code == 422
    assert "tokenizer.json" in whole.result().json()["error"]["message"]
