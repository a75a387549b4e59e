"""Several people on one machine, none with a key: each address gets its turn."""

import threading

import httpx
from running_daemon import endless


def client_at(daemon, address):
    transport = httpx.HTTPTransport(local_address=address)
    return httpx.Client(base_url=daemon.url, transport=transport, timeout=120)


def test_addresses_are_served_in_turn(start):
    daemon = start("--threads", "1", "--max-sequences", "1")
    ended = []

    def ask(address):
        with client_at(daemon, address) as client:
            answer = client.post("/v1/completions", json=endless(max_tokens=60))
            assert answer.status_code == 200
            ended.append(address)

    def begin(address):
        thread = threading.Thread(target=ask, args=(address,))
        thread.start()
        return thread

    many = [begin("127.0.0.1") for _ in range(12)]
    with daemon.client() as client:
        while client.get("/mlxr/v1/ps").json()["models"][0]["waiting"] < 8:
            pass
    one = begin("127.0.0.2")
    for thread in [*many, one]:
        thread.join()
    assert ended.count("127.0.0.2") == 1
    # Whoever has asked for much waits for whoever has not.
    assert ended.index("127.0.0.2") < len(ended) - 1 - 3
