"""Several models in memory: a limit for all, who makes room, what waits for a load."""

import contextlib
import os
import shutil
import socket
import threading
import time

import grpc
import ollama
import pytest
from grpc_client import GrpcClient
from running_daemon import MODELS, chat_body, endless, events_of
from test_disconnect import send
from test_metrics import scrape

DEMO, DRAFT = "mlxr-demo", "mlxr-demo-draft"
PLAIN = ("--model-folders", MODELS, "--kv-disk", "false", "--kv-bytes", "8MiB")


@pytest.fixture(scope="module")
def sizes():
    """What each model takes, as estimated."""
    from running_daemon import RunningDaemon

    with RunningDaemon(*PLAIN) as daemon, daemon.client() as client:
        return {
            name: client.post("/mlxr/v1/load", json={"name": name}).json()["memory"]["total_bytes"]
            for name in (DEMO, DRAFT)
        }


def ask(client, model, **fields):
    body = {"model": model, "prompt": "Once upon", "max_tokens": 3, "temperature": 0, **fields}
    return client.post("/v1/completions", json=body)


def loaded(daemon):
    return [model["name"] for model in daemon.ps()]


def total(client, name, **labels):
    return scrape(client)[1][name, tuple(labels.items())]


def test_memory_is_shown(start):
    daemon = start(*PLAIN, "--memory-bytes", "3GiB")
    with daemon.client() as client:
        ask(client, DEMO)
        body = client.get("/mlxr/v1/ps").json()
        memory = body["models"][0]["memory"]
        parts = ("weight_bytes", "kv_bytes", "activation_bytes", "other_bytes", "adapter_bytes")
        assert memory["total_bytes"] == sum(memory[part] for part in parts)
        assert memory["kv_bytes"] == body["models"][0]["kv_bytes"]
        assert memory["weight_bytes"] == body["models"][0]["repacked_bytes"] > 0
        assert body["memory"]["limit_bytes"] == 3 << 30
        assert body["memory"]["reserved_bytes"] == memory["total_bytes"]
        assert total(client, "mlxr_memory_limit_bytes") == 3 << 30
        assert total(client, "mlxr_memory_reserved_bytes") == memory["total_bytes"]
        assert total(client, "mlxr_model_memory_bytes", model=DEMO) == memory["total_bytes"]
        assert total(client, "mlxr_interleaved_weight_bytes", model=DEMO) == memory["weight_bytes"]
        assert total(client, "mlxr_model_loads_total") == 1


def test_the_model_used_longest_ago_makes_room(start, sizes):
    daemon = start(*PLAIN, "--memory-bytes", sum(sizes.values()) - 1)
    with daemon.client() as client:
        assert ask(client, DEMO).status_code == 200
        assert ask(client, DRAFT).status_code == 200
        assert loaded(daemon) == [DRAFT]
        assert ask(client, DEMO).status_code == 200
        assert loaded(daemon) == [DEMO]
        assert total(client, "mlxr_model_unloads_total", reason="memory") == 2


def test_a_load_waits_for_a_model_with_work(start, sizes):
    daemon = start(*PLAIN, "--threads", "1", "--memory-bytes", sum(sizes.values()) - 1)
    answers = {}

    def ask_for(name):
        with daemon.client() as client:
            answers[name] = ask(client, name)

    with daemon.client() as client:
        alone = ask(client, DEMO, ignore_eos=True, max_tokens=300).json()["choices"][0]["text"]
        body = endless(model=DEMO, prompt="Once upon", stream=True, n=4)
        with client.stream("POST", "/v1/completions", json=body) as answer:
            events = (event for event in events_of(answer) if event["choices"][0]["index"] == 0)
            text = next(events)["choices"][0]["text"]
            waiting = threading.Thread(target=ask_for, args=(DRAFT,))
            waiting.start()
            daemon.wait_for_log("waits for others to leave", seconds=20)
            assert not answers
            assert [m["leaving"] for m in daemon.ps()] == [True]
            behind = threading.Thread(target=ask_for, args=(DEMO,))
            behind.start()
            while len(text) < len(alone):
                text += next(events)["choices"][0]["text"]
            assert not answers
        assert text.startswith(alone)
        waiting.join(60)
        behind.join(60)
        assert answers[DRAFT].status_code == answers[DEMO].status_code == 200
        assert loaded(daemon) == [DEMO]
        assert total(client, "mlxr_model_load_refusals_total") == 0


def test_a_request_that_waits_for_memory_can_be_given_up(start, sizes):
    daemon = start(*PLAIN, "--threads", "1", "--memory-bytes", sum(sizes.values()) - 1)
    with daemon.client() as client, daemon.client() as other:
        with client.stream(
            "POST", "/v1/completions", json=endless(model=DEMO, stream=True, n=4)
        ) as answer:
            events = events_of(answer)  # held: dropping it would close the connection
            next(events)
            late = ask(other, DRAFT, timeout=0.3)
            assert late.status_code == 504
            assert "0.3" in late.text or "300 ms" in late.text
            send(daemon, {"model": DRAFT, "prompt": "a"}).close()
        assert ask(other, DEMO).status_code == 200
        assert total(other, "mlxr_model_loads_total") in (1, 2)


def test_what_never_fits_is_refused_in_each_apis_shape(start, sizes):
    limit = max(sizes.values()) - 1
    (large,) = [name for name in sizes if sizes[name] > limit]
    (small,) = [name for name in sizes if sizes[name] <= limit]
    daemon = start(*PLAIN, "--memory-bytes", limit)
    hello = [{"role": "user", "content": "hi"}]
    with daemon.client() as client:
        assert ask(client, small).status_code == 200
        before = daemon.ps()[0]["loaded_at"]
        openai = client.post("/v1/chat/completions", json=chat_body("hi", model=large))
        assert openai.status_code == 503
        message = openai.json()["error"]["message"]
        for part in (large, "weights", "KV cache", "limit", "memory_bytes"):
            assert part in message
        anthropic = client.post(
            "/v1/messages", json={"model": large, "max_tokens": 5, "messages": hello}
        )
        assert anthropic.status_code in (503, 529)
        assert anthropic.json()["type"] == "error"
        assert anthropic.json()["error"]["message"] == message
        native = client.post("/api/chat", json={"model": large, "messages": hello})
        assert native.status_code == 503
        assert native.json() == {"error": message}
        with pytest.raises(grpc.RpcError) as caught:
            GrpcClient(f"unix:{daemon.home}/mlxr-grpc.sock").call(
                "Models/LoadModel", {"name": large}
            )
        assert caught.value.details() == message
        assert loaded(daemon) == [small]
        assert daemon.ps()[0]["loaded_at"] == before
        assert total(client, "mlxr_model_unloads_total", reason="memory") == 0


def test_a_pinned_model_stays(start, sizes, tmp_path):
    folder = tmp_path / "configs" / "models"
    folder.mkdir(parents=True)
    (folder / f"{DEMO}.yaml").write_text("pin: true\n")
    daemon = start(*PLAIN, "--memory-bytes", sum(sizes.values()) - 1, home=tmp_path)
    with daemon.client() as client:
        assert ask(client, DEMO).status_code == 200
        assert daemon.ps()[0]["pinned"] is True
        assert ask(client, DRAFT).status_code == 503
        assert loaded(daemon) == [DEMO]
        client.post("/mlxr/v1/unload", json={"name": DEMO})
        assert ask(client, DRAFT).status_code == 200


def test_as_many_models_as_are_allowed(start):
    daemon = start(*PLAIN, "--max-loaded-models", "1")
    with daemon.client() as client:
        assert ask(client, DEMO).status_code == 200
        assert ask(client, DRAFT).status_code == 200
        assert loaded(daemon) == [DRAFT]
        assert total(client, "mlxr_model_unloads_total", reason="max_loaded_models") == 1


def test_num_ctx_never_reloads(start):
    """Whatever a request says of the window: the model stays as it was loaded."""
    daemon = start(*PLAIN)
    client = ollama.Client(host=daemon.url)
    windows = set()
    for num_ctx in (None, 16, 512, 2048, 100000, None):
        options = {"num_predict": 2} | ({} if num_ctx is None else {"num_ctx": num_ctx})
        client.chat(DRAFT, [{"role": "user", "content": "hi"}], options=options)
        client.generate(DRAFT, "hi", options=options)
        (model,) = daemon.ps()
        windows.add((model["loaded_at"], model["context_length"]))
    assert len(windows) == 1
    with daemon.client() as http:
        assert total(http, "mlxr_model_loads_total") == 1


def test_idle_models_leave_by_the_setting(start):
    daemon = start(*PLAIN, "--keep-alive-s", "0")
    with daemon.client() as client:
        assert ask(client, DRAFT).status_code == 200
        deadline = time.monotonic() + 20
        while loaded(daemon) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert loaded(daemon) == []
        assert total(client, "mlxr_model_unloads_total", reason="keep_alive") == 1


@pytest.fixture
def slow_model(tmp_path):
    """A model whose load waits until its tokenizer is written into a pipe."""
    folder = tmp_path / "models" / "slow"
    shutil.copytree(MODELS / DRAFT, folder)
    tokenizer = folder / "tokenizer.json"
    content = tokenizer.read_bytes()
    tokenizer.unlink()
    os.mkfifo(tokenizer)

    def finish():
        with tokenizer.open("wb") as pipe:
            pipe.write(content)

    return folder.parent, finish


def wait_for(daemon, name, value):
    with daemon.client() as client:
        deadline = time.monotonic() + 20
        while total(client, name) != value:
            assert time.monotonic() < deadline, (name, value)
            time.sleep(0.02)


def test_requests_wait_for_a_load(start, slow_model):
    folder, finish = slow_model
    daemon = start("--model-folders", f"{folder}:{MODELS}", "--max-queue", "6")
    with daemon.client() as client, contextlib.ExitStack() as stack:
        # A deadline.
        late = ask(client, "slow", timeout=0.3)
        assert late.status_code == 504
        assert "slow" in late.json()["error"]["message"]
        # One that goes away.
        gone = send(daemon, {"model": "slow", "prompt": "a"})
        wait_for(daemon, "mlxr_load_waiting_requests", 1)
        gone.close()
        wait_for(daemon, "mlxr_load_waiting_requests", 0)
        # Another model loads and answers meanwhile.
        assert ask(client, DEMO).status_code == 200
        # Those who wait, as many as may; all of them share the load.
        answers = []
        threads = [
            threading.Thread(target=lambda: answers.append(ask(client, "slow"))) for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        wait_for(daemon, "mlxr_load_waiting_requests", 6)
        full = ask(client, "slow")
        assert full.status_code == 429
        assert full.json()["error"]["code"] == "queue_full"
        assert loaded(daemon) == [DEMO]
        finish()
        for thread in threads:
            thread.join(60)
        assert [answer.status_code for answer in answers] == [200] * 6
        assert len({answer.json()["choices"][0]["text"] for answer in answers}) == 1
        assert total(client, "mlxr_model_loads_total") == 2
        daemon.wait_until_quiet()
        stack.pop_all()


def test_a_load_that_takes_too_long_is_503_and_goes_on(start, slow_model):
    folder, finish = slow_model
    daemon = start("--model-folders", folder, "--load-timeout-s", "1")
    with daemon.client() as client:
        answer = ask(client, "slow")
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "model_loading"
        assert int(answer.headers["retry-after"]) > 1
        finish()
        wait_for(daemon, "mlxr_model_loads_total", 1)
        assert ask(client, "slow").status_code == 200
        assert total(client, "mlxr_model_loads_total") == 1


def test_shutting_down_does_not_wait_for_a_load(start, slow_model):
    folder, _ = slow_model
    daemon = start("--model-folders", folder)
    connection = send(daemon, {"model": "slow", "prompt": "a"})
    wait_for(daemon, "mlxr_models_loading", 1)
    wait_for(daemon, "mlxr_load_waiting_requests", 1)
    assert daemon.terminate(20) == 0
    with contextlib.suppress(socket.timeout):
        assert b" 503 " in connection.recv(65536).split(b"\r\n")[0]
