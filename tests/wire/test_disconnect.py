"""A client that goes away takes its work with it, at any point."""

import json
import socket
import threading
import time

import pytest
from running_daemon import endless, events_of


def send(daemon, body, path="/v1/completions"):
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
    connection = socket.create_connection(("127.0.0.1", daemon.port), timeout=20)
    connection.sendall(head.encode() + data)
    return connection


@pytest.fixture
def slow(start):
    """One thread, so that an endless answer really takes a while."""
    daemon = start("--threads", "1")
    with daemon.client() as client:
        client.post("/v1/completions", json={"prompt": "a", "max_tokens": 1})
    return daemon


@pytest.mark.parametrize("stream", [True, False])
def test_closing_cancels(slow, stream):
    connection = send(slow, endless(stream=stream))
    slow.wait_until_running()
    connection.close()
    assert slow.wait_until_quiet() < 1
    assert slow.ps()[0]["kv_blocks_used"] == 0 or slow.ps()[0]["running"] == 0
    deadline = time.monotonic() + 2
    while "finish=cancelled" not in slow.text() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert "finish=cancelled" in slow.text()


def test_closing_cancels_while_the_prompt_is_read(slow):
    """A long prompt in small steps: gone before the first token."""
    connection = send(slow, {"prompt": [300] * 2000, "max_tokens": 1, "n": 64})
    slow.wait_until_running()
    connection.close()
    assert slow.wait_until_quiet() < 2


def test_closing_ones_half_is_going_away(slow):
    """Who sends no more reads no more, as in Go's HTTP server: a stream ends, blocks are free."""
    connection = send(slow, endless(stream=True))
    slow.wait_until_running()
    connection.shutdown(socket.SHUT_WR)
    assert slow.wait_until_quiet() < 1
    connection.settimeout(10)
    received = b""
    while data := connection.recv(65536):
        received += data
    assert b"[DONE]" not in received
    connection.close()


def test_closing_cancels_embeddings(slow):
    """Sixty long texts, of which some wait and one is read in the middle."""
    texts = ["a fox and a lantern in the night " * 120] * 60
    connection = send(slow, {"input": texts}, "/v1/embeddings")
    slow.wait_until_running()
    connection.close()
    assert slow.wait_until_quiet() < 2
    assert slow.ps()[0]["running"] == slow.ps()[0]["waiting"] == 0


def test_closing_cancels_what_waits(start):
    daemon = start("--max-sequences", "1")
    with daemon.client() as client:
        client.post("/v1/completions", json={"prompt": "a", "max_tokens": 1})
    connections = [send(daemon, endless(stream=bool(i % 2))) for i in range(6)]
    daemon.wait_until_running()
    for connection in connections:
        connection.close()
    daemon.wait_until_quiet()


def test_others_go_on(slow):
    with slow.client() as client:
        alone = client.post("/v1/completions", json=endless(max_tokens=60)).json()
        connections = [send(slow, endless(stream=True)) for _ in range(4)]
        result = {}

        def ask():
            with slow.client() as other:
                result["answer"] = other.post("/v1/completions", json=endless(max_tokens=60)).json()

        thread = threading.Thread(target=ask)
        thread.start()
        slow.wait_until_running(3)
        for connection in connections:
            connection.close()
        thread.join(60)
    assert result["answer"]["choices"][0]["text"] == alone["choices"][0]["text"]


def test_a_client_that_stops_reading_does_not_hold_up_others(slow):
    stuck = send(slow, endless(stream=True, n=8, logprobs=20))
    stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.wait_until_running()
    with slow.client() as client:
        began = time.monotonic()
        answer = client.post("/v1/completions", json={"prompt": "a", "max_tokens": 5})
        assert answer.status_code == 200
        assert time.monotonic() - began < 10
    stuck.close()
    slow.wait_until_quiet()


def test_idle_stream_is_pinged(start):
    """While another request holds the only place, the waiting stream hears comments."""
    daemon = start("--threads", "1", "--max-sequences", "1")
    with daemon.client() as client:
        client.post("/v1/completions", json={"prompt": "a", "max_tokens": 1})
        blockers = [send(daemon, endless(stream=True)) for _ in range(40)]
        daemon.wait_until_running()
        lines = []
        body = {"prompt": "Hi", "max_tokens": 1, "stream": True}
        with client.stream("POST", "/v1/completions", json=body) as answer:
            began = time.monotonic()
            for line in answer.iter_lines():
                lines.append((time.monotonic() - began, line))
                if line == ": ping":
                    break
        for blocker in blockers:
            blocker.close()
    assert lines[-1][1] == ": ping"
    assert 2.5 < lines[-1][0] < 5
    daemon.wait_until_quiet()


def test_stream_is_whole_when_nobody_interferes(slow):
    with (
        slow.client() as client,
        client.stream(
            "POST", "/v1/completions", json=endless(stream=True, max_tokens=30)
        ) as answer,
    ):
        events = list(events_of(answer))
    assert events[-1] == "[DONE]"
    assert events[-2]["choices"][0]["finish_reason"] == "length"
