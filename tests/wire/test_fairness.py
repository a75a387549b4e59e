"""Several people on one machine, none with a key: each address gets its turn."""

import sys
import threading
import time

import httpx
import pytest
from running_daemon import endless

MANY, ONE = "127.0.0.1", "127.0.0.2"


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has no 127.0.0.2")
def test_addresses_are_served_in_turn(start):
    daemon = start("--threads", "1", "--max-sequences", "1")
    ended = []

    def client_at(address):
        transport = httpx.HTTPTransport(local_address=address)
        return httpx.Client(base_url=daemon.url, transport=transport, timeout=120)

    def ask(client, address):
        answer = client.post("/v1/completions", json=endless(max_tokens=300))
        assert answer.status_code == 200
        ended.append(address)

    clients = [(client_at(MANY), MANY) for _ in range(12)] + [(client_at(ONE), ONE)]
    threads = [threading.Thread(target=ask, args=pair) for pair in clients]
    clients[0][0].post("/v1/completions", json=endless(max_tokens=1))  # loads the model
    for thread in threads[:-1]:
        thread.start()
    deadline = time.monotonic() + 30
    while sum(model["waiting"] for model in daemon.ps()) < 8:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    threads[-1].start()
    for thread in threads:
        thread.join()
    for client, _ in clients:
        client.close()
    # Whoever has asked for much waits for whoever has not.
    assert len(ended) == 13
    assert ended.index(ONE) < 9
