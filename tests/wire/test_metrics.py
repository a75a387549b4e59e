"""GET /metrics: Prometheus' text format, and counters that count."""

import re

from running_daemon import MODELS

SAMPLE = re.compile(r"([a-z_]+)(?:\{(.*)\})? (\S+)")
LABEL = re.compile(r'([a-z]+)="((?:[^"\\]|\\.)*)"')


def scrape(client):
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    types, samples = {}, {}
    for line in answer.text.splitlines():
        if line.startswith("# TYPE "):
            name, kind = line.split()[2:]
            assert name not in types
            types[name] = kind
        elif not line.startswith("# HELP "):
            name, labels, value = SAMPLE.fullmatch(line).groups()
            base = re.sub("_(bucket|sum|count)$", "", name)
            assert name in types or types[base] == "histogram", line
            samples[name, tuple(LABEL.findall(labels or ""))] = float(value)
    assert answer.text.endswith("\n")
    return types, samples


def test_counters_count_what_was_answered(start):
    daemon = start("--model", MODELS / "mlxr-demo-draft")
    model = ("model", "mlxr-demo-draft")
    with daemon.client() as client:
        body = {"prompt": "a b c d a b c d a b c d", "temperature": 0, "ignore_eos": True}
        for _ in range(2):
            assert client.post("/v1/completions", json=body | {"max_tokens": 50}).is_success
        daemon.wait_until_quiet()
        types, samples = scrape(client)
        ps = daemon.ps()[0]

    def value(name):
        assert types[name] == ("counter" if name.endswith("_total") else "gauge")
        return samples[name, (model,)]

    assert value("mlxr_requests_total") == 2
    assert value("mlxr_generated_tokens_total") == 100
    assert value("mlxr_requests_running") == value("mlxr_requests_waiting") == 0
    assert value("mlxr_kv_blocks_used") == 0 < value("mlxr_kv_blocks_cached")
    assert value("mlxr_kv_blocks") == ps["kv_blocks_total"]
    assert value("mlxr_prompt_tokens_total") + value("mlxr_prefix_hit_tokens_total") > 0
    assert value("mlxr_proposed_tokens_total") == ps["proposed_tokens"]
    assert value("mlxr_accepted_tokens_total") == ps["accepted_tokens"]
    assert samples["mlxr_uptime_seconds", ()] > 0

    kernels = {
        dict(labels)["kernel"]: seconds
        for (name, labels), seconds in samples.items()
        if name == "mlxr_kernel_seconds_total"
    }
    assert {"graph", "attention_fused", "q_gemm_dequant"} <= set(kernels)
    assert 0 < sum(kernels.values()) <= samples["mlxr_step_seconds_sum", (model,)]

    assert types["mlxr_step_seconds"] == "histogram"
    buckets = [
        (dict(labels)["le"], count)
        for (name, labels), count in samples.items()
        if name == "mlxr_step_seconds_bucket"
    ]
    assert [count for _, count in buckets] == sorted(count for _, count in buckets)
    assert buckets[-1] == ("+Inf", samples["mlxr_step_seconds_count", (model,)])
    accepted = value("mlxr_accepted_tokens_total")
    assert samples["mlxr_step_seconds_count", (model,)] >= 100 - accepted

    def times(name):
        assert types[name] == "histogram"
        count, seconds = (samples[f"{name}_{end}", (model,)] for end in ("count", "sum"))
        assert samples[f"{name}_bucket", (model, ("le", "+Inf"))] == count
        return count, seconds

    assert times("mlxr_queue_seconds")[0] == times("mlxr_first_token_seconds")[0] == 2
    assert times("mlxr_token_seconds")[0] == 98
    requests, seconds = times("mlxr_request_seconds")
    assert requests == 2
    assert seconds >= times("mlxr_first_token_seconds")[1] >= times("mlxr_queue_seconds")[1]


def test_requests_are_counted_by_route_and_status(start):
    daemon = start()
    with daemon.client() as client:
        for _ in range(2):
            client.get("/health")
        client.get("/v1/models/nothing")
        client.get("/no/such/path")
        client.post("/v1/completions", json={"prompt": 7})
        types, samples = scrape(client)
        _, again = scrape(client)
    assert types["mlxr_api_requests_total"] == "counter"

    def count(route, status, of=samples):
        return of["mlxr_api_requests_total", (("route", route), ("status", str(status)))]

    assert count("GET /health", 200) == 2
    assert count("GET /v1/models/{name...}", 404) == 1
    assert count("GET -", 404) == 1
    assert count("POST /v1/completions", 400) == 1
    assert count("GET /metrics", 200, again) == 1


def test_without_models_there_are_no_samples_of_them(start):
    daemon = start()
    with daemon.client() as client:
        _, samples = scrape(client)
    assert ("mlxr_uptime_seconds", ()) in samples
    assert [name for name, labels in samples if "model" in dict(labels)] == []
