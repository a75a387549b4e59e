"""LoRA adapters: chosen by request, mixed in one batch, swapped while the daemon runs, and made
part of a created model; and a cached prefix is never another adapter's."""

import hashlib
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ollama
import openai
import pytest
from grpc_client import GrpcClient, text_of
from random_adapter import LAYERS, TARGETS, write_adapter
from running_daemon import RunningDaemon

MODEL = "mlxr-demo"


@pytest.fixture(scope="module")
def own():
    home = Path(tempfile.mkdtemp(prefix="mlxr-lora-"))
    adapters = home / "configs/models"
    for number, name in enumerate(["tone", "style", "swapped"]):
        write_adapter(adapters / name, number)
    write_adapter(adapters / "foreign", 9, columns=64)
    (adapters / f"{MODEL}.yaml").write_text(
        "adapters:\n"
        "  - {name: tone, path: tone}\n"
        "  - {name: style, path: style}\n"
        "  - {name: swapped, path: swapped}\n"
        "  - {name: foreign, path: foreign}\n"
    )
    with RunningDaemon(home=home) as running:
        yield running
        assert running.process.poll() is None, running.text()
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def http(own):
    with own.client() as client:
        yield client


def body_of(prompt, lora=None, **fields):
    body = {"prompt": prompt, "temperature": 0, "max_tokens": 16, "ignore_eos": True, **fields}
    return body if lora is None else {**body, "lora": lora}


def ask(http, prompt, lora=None, **fields):
    answer = http.post("/v1/completions", json=body_of(prompt, lora, **fields))
    assert answer.status_code == 200, answer.text
    return answer.json()


def text(http, prompt, lora=None, **fields):
    return ask(http, prompt, lora, **fields)["choices"][0]["text"]


TONE = [{"name": "tone"}]
CHOICES = [
    [],
    TONE,
    [{"id": 0, "scale": 0.3}],
    [{"name": "style"}],
    [{"name": "tone"}, {"id": 1, "scale": -0.5}],
]


def test_each_request_has_its_own_and_company_changes_nothing(http):
    prompts = ["The fox went", "Once upon a time there was"]
    alone = {
        (prompt, number): text(http, prompt, lora)
        for prompt in prompts
        for number, lora in enumerate(CHOICES)
    }
    for prompt in prompts:
        assert len({alone[prompt, number] for number in range(len(CHOICES))}) == len(CHOICES)
        assert text(http, prompt) == alone[prompt, 0]
    with ThreadPoolExecutor(len(alone)) as pool:

        def again(case):
            # A salt of its own: nothing comes from the cache.
            return text(http, case[0], CHOICES[case[1]], cache_salt=f"together {case[1]}")

        assert list(pool.map(again, alone)) == list(alone.values())
    # In whatever order they are named.
    assert text(http, prompts[0], CHOICES[4][::-1]) == alone[prompts[0], 4]
    assert text(http, prompts[0], [{"name": "tone", "scale": 0}]) == alone[prompts[0], 0]


def test_a_prefix_is_shared_by_those_with_the_same_adapters_only(http):
    prompt = "There were a fox, a lantern and a very long way home. " * 12

    def cached(lora):
        return ask(http, prompt, lora)["usage"]["prompt_tokens_details"]["cached_tokens"]

    assert [cached(lora) for lora in CHOICES] == [0] * len(CHOICES)
    assert all(cached(lora) > 32 for lora in CHOICES)


def test_every_api_takes_them(http, own):
    prompt = "Tell me a story about a fox and a lantern."
    message = [{"role": "user", "content": prompt}]
    sampling = {"temperature": 0, "max_tokens": 12}
    client = openai.OpenAI(base_url=own.url + "/v1", api_key="none", max_retries=0)

    def chat(lora):
        answer = client.chat.completions.create(
            model=MODEL, messages=message, extra_body={"lora": lora}, **sampling
        )
        return answer.choices[0].message.content

    plain, toned = chat([]), chat(TONE)
    assert plain != toned
    response = client.responses.create(
        model=MODEL,
        input=prompt,
        temperature=0,
        max_output_tokens=12,
        extra_body={"lora": TONE},
    )
    assert response.output_text == toned
    body = {"model": MODEL, "messages": message, "stream": False, "lora": TONE}
    told = http.post("/api/chat", json={**body, "options": {"temperature": 0, "num_predict": 12}})
    assert told.json()["message"]["content"] == toned
    told = http.post("/v1/messages", json={**body, **sampling})
    assert told.json()["content"][0]["text"] == toned
    with GrpcClient(f"unix:{own.home}/mlxr-grpc.sock") as rpc:
        events = rpc.chat(prompt, options={"max_tokens": 12, "lora": TONE})
        assert text_of(events) == toned
    client.close()


def test_unknown_and_unfit_ones_are_named(http):
    def refused(path, body):
        answer = http.post(path, json=body)
        return answer.status_code, answer.json()["error"]

    status, error = refused("/v1/completions", body_of("x", [{"name": "tune"}]))
    assert status == 404
    assert error["param"] == "lora"
    assert error["code"] == "adapter_not_found"
    assert '"tune"' in error["message"]
    assert "tone, style" in error["message"]
    status, error = refused("/v1/completions", body_of("x", [{"id": 17}]))
    assert (status, error["param"]) == (404, "lora")
    status, error = refused("/v1/completions", body_of("x", [{"name": "tone"}, {"id": 0}]))
    assert (status, error["param"]) == (400, "lora")
    status, error = refused("/v1/completions", body_of("x", [{"name": "foreign"}]))
    assert (status, error["code"]) == (422, "adapter_corrupt")
    assert "q_proj.lora_A.weight" in error["message"]
    assert "[4, 64]" in error["message"]
    assert "[4, 384]" in error["message"]
    message = {"model": MODEL, "messages": [{"role": "user", "content": "x"}], "max_tokens": 1}
    status, error = refused("/api/chat", {**message, "lora": [{"name": "tune"}]})
    assert status == 404
    assert "tone, style" in error
    assert refused("/v1/completions", body_of("x", "tone"))[1]["param"] == "lora"


def test_llama_servers_routes(http):
    listed = http.get("/lora-adapters").json()
    assert [(one["id"], one["name"], one["scale"]) for one in listed] == [
        (0, "tone", 0),
        (1, "style", 0),
        (2, "swapped", 0),
        (3, "foreign", 0),
    ]
    plain, toned = text(http, "The fox", []), text(http, "The fox", [{"id": 0, "scale": 0.5}])
    assert plain != toned
    assert text(http, "The fox") == plain
    try:
        answer = http.post("/lora-adapters", json=[{"id": 0, "scale": 0.5}])
        assert answer.json() == {"success": True}
        assert text(http, "The fox") == toned
        assert text(http, "The fox", []) == plain
        listed = http.get("/lora-adapters", params={"model": MODEL}).json()
        assert listed[0]["scale"] == 0.5
        assert listed[0]["loaded"] is True
        assert listed[0]["rank"] == 4
        assert listed[0]["targets"] == ["down", "o", "q", "up", "v"]
        assert http.post("/lora-adapters", json=[{"id": 9}]).status_code == 404
        assert http.post("/lora-adapters", json={"id": 0}).status_code == 400
        assert text(http, "The fox") == toned
    finally:
        http.post("/lora-adapters", json=[])
    assert text(http, "The fox") == plain


def test_a_trained_one_is_swapped_while_the_daemon_runs(http, own):
    lora = [{"name": "swapped"}]
    before = text(http, "The fox", lora)
    write_adapter(own.home / "configs/models/swapped", 77, rank=8)
    after = text(http, "The fox", lora)
    assert after != before
    assert text(http, "The fox", lora, cache_salt="x") == after
    listed = http.get("/lora-adapters").json()
    assert listed[2]["rank"] == 8


def test_their_memory_is_counted(http):
    text(http, "a", TONE)
    (model,) = [m for m in http.get("/mlxr/v1/ps").json()["models"] if m["name"] == MODEL]
    loaded = [one for one in model["adapters"] if one["loaded"]]
    assert model["adapter_bytes"] == sum(one["size_bytes"] for one in loaded)
    # Its float32 numbers, interleaved and aligned.
    numbers = LAYERS * 4 * sum(rows + cols for rows, cols in TARGETS.values())
    assert numbers * 4 <= loaded[0]["size_bytes"] <= numbers * 4 * 1.1


def test_one_is_added_by_its_path(http, own):
    path = write_adapter(own.home / "later", 5)
    body = {"model": MODEL, "path": str(path)}
    assert http.post("/mlxr/v1/adapters", json=body).status_code == 403
    with own.unix_client() as client:
        added = client.post("/mlxr/v1/adapters", json=body).json()
        assert added["name"] == "later"
        assert added["loaded"] is True
        assert text(http, "The fox", [{"name": "later"}]) != text(http, "The fox", [])
        wrong = client.post("/mlxr/v1/adapters", json={**body, "path": str(own.home / "none")})
        assert wrong.status_code == 404
        assert "none" in wrong.json()["error"]["message"]
        relative = client.post("/mlxr/v1/adapters", json={**body, "path": "later"})
        assert relative.status_code == 400
        assert len(client.get("/lora-adapters").json()) == 5


def reserved(client):
    said = client.get("/mlxr/v1/ps").json()
    (model,) = [m for m in said["models"] if m["name"] == MODEL]
    return model["memory"]["adapter_bytes"], said["memory"]["reserved_bytes"]


def test_one_that_was_added_is_removed_with_its_memory(http, own):
    ask(http, "The fox", [])
    path = write_adapter(own.home / "extra", 6)
    before = reserved(http)
    with own.unix_client() as client:
        added = client.post("/mlxr/v1/adapters", json={"model": MODEL, "path": str(path)}).json()
        grown = [now - then for now, then in zip(reserved(http), before, strict=True)]
        assert grown[0] == grown[1] >= added["size_bytes"]
    where = {"params": {"model": MODEL}}
    assert http.delete("/mlxr/v1/adapters/extra", **where).json() == {"success": True}
    assert reserved(http) == before
    gone = http.delete("/mlxr/v1/adapters/extra", **where)
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, "adapter_not_found")
    assert http.post("/v1/completions", json=body_of("a", [{"name": "extra"}])).status_code == 404


def test_a_half_written_one_stays_what_it_was(http, own):
    path = write_adapter(own.home / "extra", 6)
    with own.unix_client() as client:
        client.post("/mlxr/v1/adapters", json={"model": MODEL, "path": str(path)})
    lora = [{"name": "extra"}]
    expected = text(http, "The fox", lora)
    weights = path / "adapter_model.safetensors"
    content = weights.read_bytes()
    weights.unlink()  # as a copy into its place does
    weights.write_bytes(content[: len(content) // 2])
    assert text(http, "The fox", lora) == expected
    assert text(http, "The fox", lora) == expected
    assert own.text().count('the adapter "extra" stays what it was') == 1
    assert http.delete("/mlxr/v1/adapters/extra", params={"model": MODEL}).status_code == 200


def test_one_that_does_not_fit_the_memory_is_refused(tmp_path):
    path = write_adapter(tmp_path / "large", 6)
    kv = ("--kv-bytes", "4MiB")
    with RunningDaemon(*kv) as running, running.client() as client:
        ask(client, "a")
        limit = reserved(client)[1] + 1000
    with RunningDaemon(*kv, "--memory-bytes", limit) as running, running.client() as client:
        ask(client, "a")
        with running.unix_client() as owner:
            refused = owner.post("/mlxr/v1/adapters", json={"model": MODEL, "path": str(path)})
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "out_of_memory"
        assert 'the adapter "large" needs' in refused.json()["error"]["message"]
        assert client.get("/lora-adapters").json() == []
        assert reserved(client)[1] == limit - 1000


def test_ollama_creates_with_an_adapter(http, own):
    client = ollama.Client(host=own.url)
    folder = own.home / "configs/models/tone"
    files = {name: folder / name for name in ("adapter_config.json", "adapter_model.safetensors")}
    digests = {name: client.create_blob(file) for name, file in files.items()}
    assert digests["adapter_config.json"].endswith(
        hashlib.sha256(files["adapter_config.json"].read_bytes()).hexdigest()
    )
    client.create("toned", from_=MODEL, adapters=digests)
    assert "\nADAPTER " in client.show("toned").modelfile
    assert text(http, "The fox", model="toned") == text(http, "The fox", TONE)
    assert text(http, "The fox", [], model="toned") == text(http, "The fox", [])
    client.create("toned-too", from_="toned", system="Be brief.")
    assert text(http, "The fox", model="toned-too") == text(http, "The fox", TONE)
    blobs = own.home / "blobs"
    client.delete("toned")
    assert len(list(blobs.iterdir())) == 3
    client.delete("toned-too")
    assert list(blobs.iterdir()) == []

    bad = own.home / "configs/models/foreign"
    digests = {name: client.create_blob(bad / name) for name in files}
    with pytest.raises(ollama.ResponseError) as caught:
        client.create("unfit", from_=MODEL, adapters=digests)
    assert caught.value.status_code == 422
    assert "lora_A.weight" in caught.value.error


def test_a_default_that_cannot_be_used_is_told_at_load(start, tmp_path):
    folder = tmp_path / "configs/models"
    write_adapter(folder / "foreign", 1, columns=64)
    (folder / f"{MODEL}.yaml").write_text("adapters:\n  - {path: foreign, scale: 1}\n")
    daemon = start(home=tmp_path)
    with daemon.client() as client:
        answer = client.post("/v1/completions", json=body_of("x"))
    assert answer.status_code == 422
    assert "foreign" in answer.json()["error"]["message"]
