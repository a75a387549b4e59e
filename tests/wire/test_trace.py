"""GET /mlxr/v1/trace: the life of a request, in Chrome's trace format."""

from running_daemon import endless


def lives(trace):
    """Events by their thread's name: "engine", or a request's id."""
    names = {
        (e["pid"], e["tid"]): e["args"]["name"]
        for e in trace["traceEvents"]
        if e["name"] == "thread_name"
    }
    found = {}
    for event in trace["traceEvents"]:
        if event["ph"] != "M":
            found.setdefault(names[event["pid"], event["tid"]], []).append(event)
    return found


def test_a_requests_life(start):
    daemon = start()
    with daemon.client() as client:
        answer = client.post("/v1/completions", json=endless(max_tokens=10))
        other = client.post("/v1/completions", json=endless(max_tokens=5, n=2))
        daemon.wait_until_quiet()
        name = answer.headers["x-request-id"]
        trace = client.get("/mlxr/v1/trace", params={"request": name}).json()
        everything = client.get("/mlxr/v1/trace").json()
    life = lives(trace)
    assert set(life) == {name, "engine"}
    kinds = [e["name"] for e in life[name]]
    assert kinds[0] == "queued"
    assert kinds[1] == "prefill"
    assert kinds[-1] == "finish"
    assert life[name][-1]["args"] == {"tokens": 10, "reason": "length"}
    sampled = [e for e in life[name] if e["name"] == "sample"]
    assert sum(e["args"]["tokens"] for e in sampled) == 10
    steps = kinds.count("prefill") + kinds.count("decode")
    assert steps == len(sampled) == len(life["engine"])
    for event in life[name][:-1]:
        assert event["ph"] == "X"
        assert event["dur"] >= 0
    begins = [e["ts"] for e in life[name]]
    assert begins == sorted(begins)
    choice = other.headers["x-request-id"]
    assert {choice, f"{choice}/1", name} <= set(lives(everything))
    processes = [e for e in everything["traceEvents"] if e["name"] == "process_name"]
    assert [p["args"]["name"] for p in processes] == ["mlxr-demo"]
    assert f"id={name}" in daemon.text()


def test_what_is_not_there(start):
    daemon = start()
    with daemon.client() as client:
        answer = client.get("/mlxr/v1/trace", params={"request": "req_none"})
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "not_in_trace"
    off = start("--trace-events", "0")
    with off.client() as client:
        assert client.post("/v1/completions", json=endless(max_tokens=2)).is_success
        assert client.get("/mlxr/v1/trace").json()["error"]["code"] == "trace_off"


def test_the_ring_is_bounded(start):
    daemon = start("--trace-events", "20")
    with daemon.client() as client:
        client.post("/v1/completions", json=endless(max_tokens=40))
        daemon.wait_until_quiet()
        trace = client.get("/mlxr/v1/trace").json()
    assert sum(e["ph"] != "M" for e in trace["traceEvents"]) == 20
    assert trace["otherData"]["overwritten_events"] > 20
