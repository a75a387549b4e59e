"""The native endpoints: what there is and what is loaded; and damaged model files."""

import json
import shutil
import threading
import time
from pathlib import Path

import pytest
from running_daemon import MODELS, endless, events_of, program

BUILT_IN = program().parents[1] / "share/mlxr/models/mlxr-demo.gguf"


def test_list_and_show(daemon):
    with daemon.client() as client:
        models = {m["name"]: m for m in client.get("/mlxr/v1/models").json()["models"]}
        listed = models["mlxr-demo"]
        assert listed["format"] == "gguf"
        assert listed["architecture"] == "llama"
        assert listed["quantization"] == "Q8_0"
        assert listed["parameters"] == 11801472
        assert listed["context_length"] == 2048
        assert listed["is_default"] is True
        shown = client.get("/mlxr/v1/models/mlxr-demo").json()
        assert listed.items() - {"loaded": 0}.items() <= shown.items() or listed["name"] in str(
            shown
        )
        assert shown["vocab_size"] == 6144
        assert shown["hidden_size"] == 384
        assert shown["layers"] == 6
        assert "<|im_start|>" in shown["chat_template"]
        assert shown["default_sampling"]["temperature"] == 0.7
        assert "<|im_end|>" in [t["text"] for t in shown["stop_tokens"]]
        assert client.get("/mlxr/v1/models/none").status_code == 404


def test_load_ps_unload(start):
    daemon = start("--model-folders", MODELS)
    with daemon.client() as client:
        assert client.get("/mlxr/v1/ps").json()["models"] == []
        loaded = client.post("/mlxr/v1/load", json={"name": "mlxr-demo-draft"}).json()
        assert loaded["name"] == "mlxr-demo-draft"
        assert loaded["quantization"] == "BF16"
        assert loaded["context_length"] == 2048
        assert loaded["kv_blocks_total"] > 0
        assert client.get("/mlxr/v1/ps").json()["models"] == [loaded]
        assert client.post("/mlxr/v1/unload", json={"name": "mlxr-demo-draft"}).json() == {
            "name": "mlxr-demo-draft",
            "unloaded": True,
        }
        assert client.get("/mlxr/v1/ps").json()["models"] == []
        again = client.post("/mlxr/v1/unload", json={"name": "mlxr-demo-draft"}).json()
        assert again["unloaded"] is False
        assert client.post("/mlxr/v1/unload", json={"name": "none"}).status_code == 404
        assert client.post("/mlxr/v1/load", json={}).json()["error"]["param"] == "name"


def test_load_by_path_over_the_unix_socket_only(start):
    daemon = start()
    path = {"path": str(MODELS / "mlxr-demo-draft")}
    with daemon.client() as client:
        answer = client.post("/mlxr/v1/load", json=path)
        assert answer.status_code == 403
        assert answer.json()["error"]["code"] == "unix_socket_only"
    with daemon.unix_client() as client:
        assert client.post("/mlxr/v1/load", json=path).json()["name"] == "mlxr-demo-draft"
        relative = client.post("/mlxr/v1/load", json={"path": "models/mlxr-demo-draft"})
        assert relative.status_code == 400
        assert relative.json()["error"]["param"] == "path"
        missing = client.post("/mlxr/v1/load", json={"path": "/nowhere/x.gguf"})
        assert missing.status_code == 404


def test_two_models_at_once(start):
    daemon = start("--model-folders", MODELS)
    with daemon.client() as client:

        def ask(model):
            return client.post("/v1/completions", json=endless(model=model, max_tokens=40)).json()

        alone = {m: ask(m)["choices"][0]["text"] for m in ("mlxr-demo", "mlxr-demo-draft")}
        assert len(set(alone.values())) == 2
        together = {}
        threads = [
            threading.Thread(target=lambda m=m: together.update({m: ask(m)["choices"][0]["text"]}))
            for m in alone
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert together == alone


def test_unloading_lets_running_answers_end(start):
    daemon = start("--threads", "1")
    with (
        daemon.client() as client,
        client.stream(
            "POST", "/v1/completions", json=endless(stream=True, max_tokens=200)
        ) as answer,
    ):
        events = events_of(answer)
        next(events)
        with daemon.client() as other:
            other.post("/mlxr/v1/unload", json={"name": "mlxr-demo"})
        rest = list(events)
    assert rest[-1] == "[DONE]"
    assert rest[-2]["choices"][0]["finish_reason"] == "length"


def test_per_model_settings(start, tmp_path):
    folder = tmp_path / "configs" / "models"
    folder.mkdir(parents=True)
    file = folder / "mlxr-demo.yaml"
    file.write_text("context_length: 128\ntemperature: 0\n")
    daemon = start(home=tmp_path)
    with daemon.client() as client:
        texts = {
            client.post("/v1/completions", json={"prompt": "Once upon", "max_tokens": 20}).json()[
                "choices"
            ][0]["text"]
            for _ in range(3)
        }
        assert len(texts) == 1
        too_long = client.post("/v1/completions", json={"prompt": [300] * 129})
        assert too_long.status_code == 400
        assert "128" in too_long.json()["error"]["message"]
        assert client.get("/v1/models/mlxr-demo").json()["context_length"] == 128

        file.write_text("context_length: 128\ntemprature: 0\n")
        client.post("/mlxr/v1/unload", json={"name": "mlxr-demo"})
        broken = client.post("/v1/completions", json={"prompt": "Once"})
        assert broken.status_code == 400
        assert "mlxr-demo.yaml:2" in broken.json()["error"]["message"]
        assert "temperature" in broken.json()["error"]["message"]


def flip(path, offset, count=64):
    data = bytearray(path.read_bytes())
    for i in range(offset, offset + count):
        data[i] ^= 0xFF
    path.write_bytes(data)


def damaged_models(folder):
    """name -> (path, what the message must hold)"""
    folder.mkdir()
    source = BUILT_IN.read_bytes()
    models = {}

    def gguf(name, data, *words):
        path = folder / f"{name}.gguf"
        path.write_bytes(data)
        models[name] = (path, words)
        return path

    gguf("empty", b"")
    gguf("text", b"this is not a model\n" * 50)
    gguf("short", source[:20])
    gguf("header", source[:5000])
    gguf("truncated", source[: len(source) // 2])
    flip(gguf("flipped", source), 4, 20)
    flip(gguf("flipped-names", source), 24, 200)
    architecture = b"general.architecture"
    at = source.index(b"llama", source.index(architecture))
    gguf("unknown", source[:at] + b"zebra" + source[at + 5 :], "zebra", "llama")

    def copied(name, *words):
        path = folder / name
        shutil.copytree(MODELS / "mlxr-demo-draft", path)
        models[name] = (path, words)
        return path

    (copied("no-tokenizer", "tokenizer") / "tokenizer.json").unlink()
    config = copied("strange", "zebra", "llama") / "config.json"
    said = json.loads(config.read_text())
    said["architectures"], said["model_type"] = ["ZebraForCausalLM"], "zebra"
    config.write_text(json.dumps(said))
    (copied("bad-config", "config.json") / "config.json").write_text('{"hidden_size": ')
    weights = copied("cut-weights") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100000])
    flip(copied("flipped-weights") / "model.safetensors", 8, 40)
    (copied("bad-tokenizer", "tokenizer.json") / "tokenizer.json").write_text("{}")
    return models


@pytest.mark.skipif(not BUILT_IN.exists(), reason="the build makes the built-in model")
def test_damaged_models_fail_alone(start, tmp_path):
    models = damaged_models(tmp_path / "damaged")
    daemon = start("--threads", "1", "--model-folders", tmp_path / "damaged")
    with daemon.client() as client:
        alone = client.post("/v1/completions", json=endless(max_tokens=400)).json()
        result = {}

        def stream():
            with (
                daemon.client() as other,
                other.stream(
                    "POST", "/v1/completions", json=endless(max_tokens=400, stream=True)
                ) as answer,
            ):
                result["events"] = list(events_of(answer))

        thread = threading.Thread(target=stream)
        thread.start()
        problems = {}
        with daemon.unix_client() as unix:
            for name, (path, words) in models.items():
                by_path = unix.post("/mlxr/v1/load", json={"path": str(path)})
                by_name = client.post("/v1/completions", json={"model": name, "prompt": "a"})
                for answer in (by_path, by_name):
                    error = answer.json().get("error", {})
                    message = error.get("message", "")
                    good = (
                        answer.status_code == 422
                        and error.get("code") in ("model_corrupt", "unsupported")
                        and (path.name in message or str(path) in message)
                        and all(word in message for word in words)
                    )
                    if not good:
                        problems[name] = (answer.status_code, error)
        thread.join(60)
        assert not problems, json.dumps(problems, indent=1)
        listed = {m["name"]: m for m in client.get("/mlxr/v1/models").json()["models"]}
        assert listed["empty"]["error"]
        served = [m["id"] for m in client.get("/v1/models").json()["data"]]
        assert "mlxr-demo" in served
        assert "empty" not in served
    text = "".join(e["choices"][0]["text"] for e in result["events"] if e != "[DONE]")
    assert text == alone["choices"][0]["text"]
    assert daemon.process.poll() is None


def test_damaged_model_at_start_leaves_the_daemon_alive(start, tmp_path):
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"GGUF" + b"\xff" * 100)
    daemon = start("--model", bad)
    with daemon.client() as client:
        body = {"prompt": "Once", "max_tokens": 2, "model": "mlxr-demo"}
        assert client.post("/v1/completions", json=body).status_code == 200
        answer = client.post("/v1/completions", json=body | {"model": "bad"})
        assert answer.status_code == 422
        assert str(bad) in answer.json()["error"]["message"]
    assert 'cannot load model="bad"' in daemon.text()


def test_model_folders_are_seen_anew(start, tmp_path):
    daemon = start("--model-folders", tmp_path / "later")
    with daemon.client() as client:
        assert client.get("/v1/models/mlxr-demo-draft").status_code == 404
        shutil.copytree(MODELS / "mlxr-demo-draft", Path(tmp_path / "later" / "mlxr-demo-draft"))
        assert client.get("/v1/models/mlxr-demo-draft").status_code == 200


def counter(client, name, model):
    for line in client.get("/metrics").text.splitlines():
        if line.startswith(f'{name}{{model="{model}"}} '):
            return float(line.split()[-1])
    return None


@pytest.fixture
def own_model(tmp_path):
    folder = tmp_path / "models" / "gone"
    shutil.copytree(MODELS / "mlxr-demo-draft", folder)
    return folder


def load_and_remove(client, folder):
    assert client.post("/mlxr/v1/load", json={"name": "gone"}).status_code == 200
    shutil.move(folder, folder.parent.parent / "away")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/mlxr/v1/unload", {"name": "gone"}),
        ("/api/generate", {"model": "gone", "keep_alive": 0}),
        ("/api/chat", {"model": "gone:latest", "keep_alive": 0}),
        ("/api/embed", {"model": "gone", "keep_alive": 0, "input": []}),
    ],
)
def test_a_model_whose_files_are_gone_is_shown_and_unloaded(start, own_model, path, body):
    daemon = start("--model-folders", own_model.parent)
    with daemon.client() as client:
        load_and_remove(client, own_model)
        (shown,) = client.get("/api/ps").json()["models"]
        assert shown["name"] == "gone:latest"
        assert [m["name"] for m in daemon.ps()] == ["gone"]
        assert client.post(path, json=body).status_code == 200
        assert client.get("/api/ps").json()["models"] == []
        assert client.post("/mlxr/v1/unload", json={"name": "gone"}).status_code == 404


def test_a_model_that_leaves_is_seen_and_counted_to_its_end(start):
    model = "mlxr-demo-draft"
    daemon = start("--model", MODELS / model, "--kv-disk", "false")
    tokens = "mlxr_generated_tokens_total"
    with daemon.client() as client, daemon.client() as other:
        body = endless(stream=True, n=4, max_tokens=900)
        with client.stream("POST", "/v1/completions", json=body) as answer:
            events = events_of(answer)
            next(events)
            assert other.post("/mlxr/v1/unload", json={"name": model}).json()["unloaded"]
            (shown,) = daemon.ps()
            assert shown["leaving"] is True
            assert shown["running"] == 4
            assert counter(other, "mlxr_model_memory_bytes", model) > 0
            assert [m["name"] for m in other.get("/api/ps").json()["models"]] == [model + ":latest"]
            assert other.post("/v1/completions", json=endless(max_tokens=7)).status_code == 200
            assert sorted(m["leaving"] for m in daemon.ps()) == [False, True]
            text = other.get("/metrics").text
            assert text.count(f'mlxr_kv_bytes{{model="{model}"}}') == 1
            list(events)
        deadline = time.monotonic() + 20
        while any(m["leaving"] for m in daemon.ps()) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert counter(other, tokens, model) == 3607
        other.post("/mlxr/v1/unload", json={"name": model})
        assert daemon.ps() == []
        assert counter(other, tokens, model) == 3607
        assert counter(other, "mlxr_kv_bytes", model) is None


def test_a_model_whose_file_is_replaced_is_loaded_anew(start, tmp_path):
    folder = tmp_path / "models" / "mine"
    shutil.copytree(MODELS / "mlxr-demo-draft", folder)
    daemon = start("--model-folders", folder.parent, "--kv-disk", "false")
    with daemon.client() as client:
        ask = endless(model="mine", max_tokens=20)
        small = client.post("/v1/completions", json=ask).json()["choices"][0]["text"]
        shutil.copytree(MODELS / "mlxr-demo", tmp_path / "new")
        shutil.rmtree(folder)
        (tmp_path / "new").rename(folder)
        large = client.post("/v1/completions", json=ask).json()["choices"][0]["text"]
        assert large != small
        assert [m["leaving"] for m in daemon.ps()] == [False]
