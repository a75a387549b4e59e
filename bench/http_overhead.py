#!/usr/bin/env python3
"""What HTTP adds to the engine: the time to the first token beyond the engine's own, and what
two hundred streams at once are like.

  bench/http_overhead.py [--model PATH] [--requests 500] [--streams 200] [--json]

Starts a daemon of its own (MLXR_BIN, else the Release build); needs the tests' environment. A
request's time to first token is measured from before its bytes are written to a socket until the
first text of its answer has been read from it. The engine's is what the daemon's trace says of the
same request, by the same clock: from its arrival at the scheduler until its first logits were
there. The difference is the overhead: reading and checking the request, the template, tokens,
sampling, text, JSON, the sockets, and this client, whose part an empty request shows.
"""

import argparse
import json
import os
import platform
import selectors
import socket
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/wire"))
from running_daemon import RunningDaemon  # noqa: E402


def request_of(path, body=None):
    data = json.dumps(body).encode() if body else b""
    method = "POST" if body else "GET"
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode() + data


def chat_request(model, text, tokens):
    messages = [{"role": "user", "content": text}]
    fields = {"temperature": 0, "stream": True, "max_tokens": tokens, "ignore_eos": True}
    return request_of("/v1/chat/completions", {"model": model, "messages": messages, **fields})


def has_text(received):
    """Whether a piece of a stream has a word of the answer in it."""
    return any(
        b'"content":"' in line and b'"content":""' not in line
        for line in received.split(b"\n")
        if line.startswith(b"data: ")
    )


def round_trip(connection):
    """Milliseconds of a request that does nothing: what the client and the sockets take."""
    begin = time.monotonic_ns()
    connection.sendall(request_of("/health"))
    connection.recv(65536)
    return (time.monotonic_ns() - begin) / 1e6


def first_token(connection, request):
    """When it was sent, when its first text was here (ns), and its id."""
    begin = time.monotonic_ns()
    connection.sendall(request)
    received, end = b"", None
    while b"data: [DONE]" not in received:
        part = connection.recv(65536)
        if not part:
            raise RuntimeError(f"the connection ended: {received[-300:]!r}")
        received += part
        if end is None and has_text(received):
            end = time.monotonic_ns()
    while not received.endswith(b"0\r\n\r\n"):
        received += connection.recv(65536)
    name = received.split(b"X-Request-Id: ")[1].split(b"\r\n")[0].decode()
    return begin, end, name


def engine_time(client, name):
    """Milliseconds from the request's arrival until its first logits, and when it arrived."""
    for _ in range(100):
        answer = client.get("/mlxr/v1/trace", params={"request": name})
        if answer.status_code == 200:
            events = [e for e in answer.json()["traceEvents"] if e.get("ph") == "X" and e["tid"]]
            sampled = [e for e in events if e["name"] == "sample"]
            if sampled:
                arrived = min(e["ts"] for e in events)
                return (min(e["ts"] for e in sampled) - arrived) / 1e3, arrived / 1e3
        time.sleep(0.01)
    raise RuntimeError(f"the trace does not know {name}")


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def overhead(daemon, model, count):
    """Of `count` requests, one after another: total, engine, and the ways in and out, in ms."""
    rows, idle = [], []
    with (
        daemon.client() as client,
        socket.create_connection(("127.0.0.1", daemon.port)) as connection,
    ):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for i in range(-20, count):  # the first ones warm up
            begin, end, name = first_token(connection, chat_request(model, f"Tell me of {i}.", 4))
            engine, arrived = engine_time(client, name)
            nothing = round_trip(connection)
            if i >= 0:
                total = (end - begin) / 1e6
                rows.append((total, engine, total - engine, arrived - begin / 1e6))
                idle.append(nothing)
    columns = dict(
        zip(("total", "engine", "overhead", "way_in"), zip(*rows, strict=True), strict=True)
    )
    columns["empty_request"] = idle
    return {
        name: {"p50": percentile(values, 0.5), "p95": percentile(values, 0.95)}
        for name, values in columns.items()
    }


def streams(daemon, model, count, tokens):
    """`count` streams at once: when each one's pieces came."""
    selector = selectors.DefaultSelector()
    began = time.monotonic()
    state = {}
    for i in range(count):
        connection = socket.create_connection(("127.0.0.1", daemon.port))
        connection.sendall(chat_request(model, f"Tell me of {i % 20}.", tokens))
        connection.setblocking(False)
        selector.register(connection, selectors.EVENT_READ)
        state[connection] = {"data": b"", "times": [], "done": False}
    while not all(s["done"] for s in state.values()):
        ready = selector.select(60)
        if not ready:
            break
        now = time.monotonic()
        for key, _ in ready:
            one = state[key.fileobj]
            part = key.fileobj.recv(65536)
            one["data"] += part
            if b'"content":"' in part:
                one["times"].append(now)
            if not part or b"data: [DONE]" in one["data"][-40:]:
                one["done"] = True
                selector.unregister(key.fileobj)
                key.fileobj.close()
    seconds = time.monotonic() - began
    gaps = [max(b - a for a, b in zip(t, t[1:], strict=False)) for t in times_of(state)]
    finished = sum(b'"finish_reason":"length"' in s["data"] for s in state.values())
    return {
        "streams": count,
        "finished": finished,
        "seconds": seconds,
        "tokens_per_second": count * tokens / seconds,
        "first_token_ms": {
            "p50": 1e3 * percentile([t[0] - began for t in times_of(state)], 0.5),
            "worst": 1e3 * max(t[0] - began for t in times_of(state)),
        },
        "largest_gap_ms": {"p50": 1e3 * percentile(gaps, 0.5), "worst": 1e3 * max(gaps)},
    }


def times_of(state):
    return [s["times"] for s in state.values() if len(s["times"]) > 1]


def machine():
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), model)
    return f"{model}, {os.cpu_count()} threads"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=str(ROOT / "models/mlxr-demo-draft"))
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=32, help="of each stream")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    arguments = ["--max-sequences", options.streams + 1, "--model", options.model]
    with RunningDaemon(*arguments) as daemon:
        name = Path(options.model).stem
        daemon.wait_for_log("loaded model=", 60)
        result = {
            "machine": machine(),
            "model": name,
            "milliseconds": overhead(daemon, name, options.requests),
            "together": streams(daemon, name, options.streams, options.tokens),
        }
    if options.json:
        print(json.dumps(result, indent=1))
        return
    print(f"{result['machine']}, {name}, {options.requests} requests one after another, ms:")
    for row, values in result["milliseconds"].items():
        print(f"  {row:14} p50 {values['p50']:7.3f}   p95 {values['p95']:7.3f}")
    together = result["together"]
    gaps, first = together["largest_gap_ms"], together["first_token_ms"]
    print(
        f"{together['finished']} of {together['streams']} streams at once finished, "
        f"{together['tokens_per_second']:.0f} tokens/s"
    )
    print(
        f"  first token p50 {first['p50']:.0f} ms, worst {first['worst']:.0f} ms; "
        f"a stream's largest gap p50 {gaps['p50']:.0f} ms, worst {gaps['worst']:.0f} ms"
    )


if __name__ == "__main__":
    main()
