"""HTTP itself: keep-alive, HEAD, chunks, pipelining, slow and rude clients, foreign hosts."""

import contextlib
import gzip
import json
import resource
import socket
import time
from pathlib import Path

import pytest
from running_daemon import chat_body


def raw(daemon, data, seconds=10):
    """Sends bytes as they are; returns everything that comes until the server closes."""
    with socket.create_connection(("127.0.0.1", daemon.port), timeout=seconds) as connection:
        connection.sendall(data)
        received = b""
        try:
            while part := connection.recv(65536):
                received += part
        except TimeoutError:
            pass
        return received


def get(path, *headers, version="1.1"):
    lines = [f"GET {path} HTTP/{version}", "Host: localhost", *headers, "", ""]
    return "\r\n".join(lines).encode()


def test_health(http, daemon):
    body = http.get("/health").json()
    assert body["status"] == "ok"
    assert body["pid"] == daemon.process.pid


def test_head_has_no_body_but_the_length(daemon, http):
    answer = http.head("/v1/models")
    assert answer.status_code == 200
    assert answer.content == b""
    # "loaded" and times aside the body is the same.
    assert int(answer.headers["content-length"]) == len(http.get("/v1/models").content)


def test_connection_is_kept(daemon):
    three = get("/health") + get("/v1/nothing") + get("/health", "Connection: close")
    received = raw(daemon, three)
    assert received.count(b"HTTP/1.1 200 OK") == 2
    assert received.count(b"HTTP/1.1 404") == 1


def test_pipelined_requests_are_answered_in_order_even_behind_a_stream(daemon):
    body = json.dumps(chat_body("Who are you?", stream=True, max_tokens=8)).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    received = raw(daemon, head + body + get("/health", "Connection: close"))
    assert received.index(b"data: [DONE]") < received.index(b'"status":"ok"')


def test_http_1_0_gets_an_unchunked_stream(daemon):
    body = json.dumps(chat_body("Who are you?", stream=True, max_tokens=4)).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.0\r\nHost: localhost\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    received = raw(daemon, head + body)
    assert b"Transfer-Encoding" not in received
    assert received.endswith(b"data: [DONE]\n\n")


def test_expect_continue(daemon):
    body = json.dumps(chat_body("Who are you?", max_tokens=2)).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
        f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    with socket.create_connection(("127.0.0.1", daemon.port), timeout=20) as connection:
        connection.sendall(head)
        assert connection.recv(1024).startswith(b"HTTP/1.1 100 Continue")
        connection.sendall(body)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK")


def test_chunked_request_body(http):
    body = json.dumps(chat_body("Who are you?", max_tokens=2)).encode()
    answer = http.post("/v1/chat/completions", content=iter([body[:10], body[10:]]))
    assert answer.status_code == 200


def test_gzipped_request_body(http):
    plain = json.dumps(chat_body("Who are you?", max_tokens=2)).encode()
    packed = {"Content-Encoding": "gzip"}

    def post(content, headers=packed):
        return http.post("/v1/chat/completions", content=content, headers=headers)

    assert post(gzip.compress(plain)).json()["choices"] == post(plain, {}).json()["choices"]
    for broken in (plain, gzip.compress(plain)[:-3]):
        answer = post(broken)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_gzip")
    # A small body that unpacks to more than the limit.
    assert post(gzip.compress(b"[" * (33 << 20))).status_code == 413
    assert post(plain, {"Content-Encoding": "br"}).status_code == 415


def test_large_answers_are_gzipped_for_who_can_read_it(http):
    def get(encoding):
        return http.get("/openapi.json", headers={"Accept-Encoding": encoding})

    packed, plain = get("gzip"), get("identity")
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert packed.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"
    assert packed.json() == plain.json()
    assert int(packed.headers["content-length"]) * 3 < int(plain.headers["content-length"])
    assert "content-encoding" not in http.get("/health").headers


def test_a_thousand_idle_connections_take_little_memory(daemon):
    def resident():
        status = Path(f"/proc/{daemon.process.pid}/status")
        if not status.exists():
            pytest.skip("needs /proc")
        (line,) = [one for one in status.read_text().splitlines() if one.startswith("VmRSS")]
        return int(line.split()[1]) / 1024

    wanted, hard = 1200, resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if hard < wanted:
        pytest.skip("needs more open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    before = resident()
    with contextlib.ExitStack() as stack:
        open_ones = []
        for _ in range(1000):
            one = socket.create_connection(("127.0.0.1", daemon.port), timeout=60)
            stack.enter_context(one)
            one.sendall(get("/health"))
            open_ones.append(one)
        for one in open_ones:
            assert one.recv(4096).startswith(b"HTTP/1.1 200")
        assert resident() - before < 50
        # They are all kept: the last one and the first one are answered again.
        for one in (open_ones[0], open_ones[-1]):
            one.sendall(get("/health"))
            assert one.recv(4096).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n\r\n\r\n",
        b"NONSENSE\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"GET /%zz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_what_is_not_http_is_refused(daemon, data):
    received = raw(daemon, data + b"\r\n\r\n", seconds=5)
    assert received.startswith(b"HTTP/1.1 400")


def test_huge_headers_are_431(daemon):
    assert raw(daemon, get("/health", "X-Big: " + "x" * 100000)).startswith(b"HTTP/1.1 431")


def test_cut_requests_leave_nothing_behind(daemon, http):
    for data in (
        b"GET /hea",
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{",
    ):
        with socket.create_connection(("127.0.0.1", daemon.port)) as connection:
            connection.sendall(data)
    assert http.get("/health").status_code == 200


@pytest.mark.parametrize("host", ["evil.test", "localhost.evil.test:80", "192.168.1.7", ""])
def test_foreign_host_is_403(daemon, http, host):
    answer = http.get("/v1/models", headers={"Host": host})
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "forbidden_host"


def test_loopback_hosts_pass(http, daemon):
    for host in ("localhost", f"localhost:{daemon.port}", "127.0.0.1:1", "[::1]:11435"):
        assert http.get("/health", headers={"Host": host}).status_code == 200


def test_foreign_origin_is_403(http):
    for origin in ("https://evil.test", "null"):
        assert http.get("/health", headers={"Origin": origin}).status_code == 403
    assert http.get("/health", headers={"Origin": "http://localhost:3000"}).status_code == 200


def test_request_ids_are_unique_and_in_the_log(http, daemon):
    ids = [http.get("/health").headers["x-request-id"] for _ in range(5)]
    assert len(set(ids)) == 5
    time.sleep(0.1)
    assert all(f"id={one} " in daemon.text() for one in ids)


def test_prompts_are_not_logged(http, daemon):
    secret = "xyzzy-plugh"
    http.post("/v1/chat/completions", json=chat_body(secret, max_tokens=2))
    http.post("/v1/chat/completions", json=chat_body(secret, temperature="hot"))
    http.post("/v1/" + secret, json={})
    time.sleep(0.1)
    assert secret not in daemon.text()
