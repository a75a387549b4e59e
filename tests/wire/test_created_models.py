"""Models made out of others, with the unmodified ollama client: create, copy, delete, blobs."""

import hashlib
from datetime import UTC, datetime, timedelta

import ollama
import openai
import pytest
from running_daemon import MODELS, RunningDaemon
from test_models import BUILT_IN

MODEL = "mlxr-demo"
WHO = [{"role": "user", "content": "Who are you?"}]
SUM = [{"role": "user", "content": "What is 63 + 81 - 88?"}]
GREEDY = {"temperature": 0}


@pytest.fixture
def client(own):
    return ollama.Client(host=own.url)


@pytest.fixture(autouse=True)
def clean(own):
    yield
    client = ollama.Client(host=own.url)
    for model in client.list().models:
        if model.model != MODEL + ":latest":
            client.delete(model.model)
    assert list((own.home / "created").glob("*")) == []
    blobs = own.home / "blobs"
    assert not blobs.exists() or list(blobs.iterdir()) == []


def test_create_from_a_model(client, own):
    done = list(
        client.create(
            "team/thinker:v2",
            from_=MODEL,
            system="Think first, then answer.",
            parameters={"temperature": 0, "num_predict": 60, "stop": ["~~"]},
            stream=True,
        )
    )
    assert done[-1].status == "success"
    told = client.chat("team/thinker:v2", SUM)
    asked = client.chat(
        MODEL,
        [{"role": "system", "content": "Think first, then answer."}, *SUM],
        options={"temperature": 0, "num_predict": 60},
    )
    assert told.message == asked.message
    assert told.message.thinking
    assert told.prompt_eval_count == asked.prompt_eval_count
    # What the request says goes first.
    plain = client.chat(
        "team/thinker:v2",
        [{"role": "system", "content": "Be brief."}, *WHO],
        options={"num_predict": 3},
    )
    assert plain.eval_count == 3
    shown = client.show("team/thinker:v2")
    assert shown.details.parent_model == MODEL
    assert 'SYSTEM """Think first' in shown.modelfile
    assert "num_predict 60" in shown.parameters
    # The other APIs know it too.
    with openai.OpenAI(base_url=own.url + "/v1", api_key="none", max_retries=0) as other:
        assert "team/thinker:v2" in [m.id for m in other.models.list()]
        answer = other.chat.completions.create(model="team/thinker:v2", messages=SUM)
        assert answer.choices[0].message.content == told.message.content
        created = other.responses.create(model="team/thinker:v2", input=SUM[0]["content"])
        assert created.output_text == told.message.content


def test_messages_begin_every_chat_and_children_inherit(client):
    history = [
        {"role": "user", "content": "weather in Accra"},
        {"role": "assistant", "content": "It is rainy."},
    ]
    client.create("child", from_=MODEL, messages=history, system="You are an expert.")
    client.create("grandchild", from_="child", parameters={"temperature": 0})
    told = client.chat("grandchild", WHO)
    system = {"role": "system", "content": "You are an expert."}
    asked = client.chat(MODEL, [system, *history, *WHO], options=GREEDY)
    assert told.message == asked.message
    assert told.prompt_eval_count == asked.prompt_eval_count
    assert client.generate("grandchild", "Who are you?").response == told.message.content


def test_template_and_context_length(client, own):
    template = "{% for m in messages %}{{ m.content }}\n{% endfor %}"
    client.create("raw", from_=MODEL, template=template, parameters={"num_ctx": 96})
    answer = client.chat("raw", WHO, options={"num_predict": 2})
    assert (
        answer.prompt_eval_count
        < client.chat(MODEL, WHO, options={"num_predict": 2}).prompt_eval_count
    )
    with pytest.raises(ollama.ResponseError, match="96"):
        client.chat("raw", [{"role": "user", "content": "word " * 200}])
    assert client.show("raw").template == template
    with pytest.raises(ollama.ResponseError, match="Go template"):
        client.create("go", from_=MODEL, template="{{ if .System }}{{ .System }}{{ end }}")
    with pytest.raises(ollama.ResponseError, match="template"):
        client.create("bad", from_=MODEL, template="{% for %}")


def test_create_from_blobs(client, own, tmp_path):
    digest = client.create_blob(BUILT_IN)
    assert digest == "sha256:" + hashlib.sha256(BUILT_IN.read_bytes()).hexdigest()
    assert client.create_blob(BUILT_IN) == digest
    client.create("uploaded", files={"model.gguf": digest})
    told = client.chat("uploaded", WHO, options=GREEDY).message
    assert told == client.chat(MODEL, WHO, options=GREEDY).message
    client.copy("uploaded", "second")
    client.delete("uploaded")
    assert client.chat("second", WHO, options=GREEDY).message == told


def test_create_from_the_blobs_of_a_folder(client):
    folder = MODELS / "mlxr-demo-draft"
    files = {f.name: client.create_blob(f) for f in folder.iterdir() if f.is_file()}
    client.create("folder", files=files)
    assert client.generate("folder", "Once upon", options={"num_predict": 2}).eval_count == 2
    with pytest.raises(ollama.ResponseError, match="no model"):
        client.create("part", files={"config.json": files["config.json"]})
    with pytest.raises(ollama.ResponseError, match="plain file name"):
        client.create("out", files={**files, "../config.json": files["config.json"]})


def test_blobs_are_checked(own):
    with own.client() as http:
        good = "sha256:" + hashlib.sha256(b"abc").hexdigest()
        assert http.head("/api/blobs/" + good).status_code == 404
        wrong = http.post("/api/blobs/" + good, content=b"abd")
        assert wrong.status_code == 400
        assert "digest" in wrong.json()["error"]
        assert http.head("/api/blobs/" + good).status_code == 404
        for bad in ("sha256:abc", "md5:" + "0" * 64, "sha256:" + "0" * 63 + "g"):
            assert http.post("/api/blobs/" + bad, content=b"abc").status_code == 400
        chunks = http.post("/api/blobs/" + good, content=iter([b"a", b"bc"]))
        assert chunks.status_code == 201
        assert http.head("/api/blobs/" + good).status_code == 200
        assert http.post("/api/blobs/" + good, content=b"abc").status_code == 200
        body = {"model": "x", "files": {"a.gguf": good}}
        assert http.post("/api/create", json=body).status_code == 400
    for file in (own.home / "blobs").iterdir():
        file.unlink()


def test_a_blob_may_be_larger_than_a_body(start):
    daemon = start("--max-body-bytes", 4096)
    client = ollama.Client(host=daemon.url)
    client.create("uploaded", files={"m.gguf": client.create_blob(BUILT_IN)})
    assert "uploaded:latest" in [m.model for m in client.list().models]


def test_refusals(client, own):
    def refused(status, call, **fields):
        with pytest.raises(ollama.ResponseError) as caught:
            call(**fields)
        assert caught.value.status_code == status
        return caught.value.error

    assert "model file" in refused(400, client.create, model=MODEL, from_=MODEL)
    assert "mlxr-demo" in refused(404, client.create, model="x", from_="mlxr-dem")
    assert "not here" in refused(
        400, client.create, model="x", from_=MODEL, adapters={"a": "sha256:" + "0" * 64}
    )
    assert "convert" in refused(400, client.create, model="x", from_=MODEL, quantize="q4_K_M")
    assert "wings" in refused(400, client.create, model="x", from_=MODEL, parameters={"wings": 2})
    assert "temperature" in refused(
        400, client.create, model="x", from_=MODEL, parameters={"temperature": 900}
    )
    assert "name" in refused(400, client.create, model="../x", from_=MODEL)
    assert "not here" in refused(
        400, client.create, model="x", files={"m.gguf": "sha256:" + "0" * 64}
    )
    assert "belongs to you" in refused(403, client.delete, model=MODEL)
    assert refused(404, client.delete, model="nothing")
    assert refused(404, client.copy, source="nothing", destination="x")
    assert refused(501, client.pull, model="x")
    assert refused(501, client.push, model="x")


def test_recreating_and_deleting_take_effect_at_once(client, own):
    client.create("mine", from_=MODEL, parameters={"num_predict": 2})
    assert client.chat("mine", WHO).eval_count == 2
    client.create("mine", from_=MODEL, parameters={"num_predict": 4})
    assert client.chat("mine", WHO).eval_count == 4
    with openai.OpenAI(base_url=own.url + "/v1", api_key="none", max_retries=0) as other:
        assert other.models.delete("mine").deleted is True
        with pytest.raises(openai.NotFoundError):
            other.models.retrieve("mine")
        with pytest.raises(openai.PermissionDeniedError):
            other.models.delete(MODEL)


def test_a_deleted_one_leaves_no_kv_blocks(client, own):
    client.create("brief", from_=MODEL, parameters={"num_predict": 2})
    client.generate("brief", "word " * 100)
    files = own.home / "kv" / "model-brief"
    assert (files / "blocks").exists()
    client.delete("brief")
    assert sorted(path.name for path in files.iterdir()) == ["lock"]


def test_created_models_outlive_the_daemon(tmp_path):
    with RunningDaemon(home=tmp_path) as first:
        ollama.Client(host=first.url).create("kept", from_=MODEL, parameters={"num_predict": 2})
    (tmp_path / "created" / "broken.json").write_text("{")
    with RunningDaemon(home=tmp_path) as second:
        client = ollama.Client(host=second.url)
        assert client.chat("kept", WHO).eval_count == 2
        assert len(client.list().models) == 2


def test_wide_parameters_hold_in_every_api(client, own):
    """Ollama has no such limits as OpenAI."""
    client.create("hot", from_=MODEL, parameters={"temperature": 2.5, "presence_penalty": 3})
    assert client.chat("hot", WHO, options={"num_predict": 3}).eval_count
    with own.client() as http:
        body = {"model": "hot", "max_tokens": 3}
        for path, fields in (
            ("/v1/chat/completions", {"messages": WHO}),
            ("/v1/completions", {"prompt": "a"}),
            ("/v1/messages", {"messages": WHO}),
            ("/v1/responses", {"input": "Hi"}),
        ):
            if path == "/v1/responses":
                fields |= {"max_output_tokens": 3}
            answer = http.post(path, json=body | fields)
            assert answer.status_code == 200, answer.text


def test_a_seed_of_minus_one_is_random(client):
    client.create("dice", from_=MODEL, parameters={"temperature": 50, "seed": -1})
    client.create("fixed", from_=MODEL, parameters={"temperature": 50, "seed": 7})

    def said(model, **options):
        options |= {"num_predict": 20, "top_k": 0, "top_p": 1, "min_p": 0}
        return [client.generate(model, "Once", options=options).response for _ in range(3)]

    assert len(set(said("dice"))) > 1
    assert len(set(said("fixed"))) == 1
    assert len(set(said("fixed", seed=-1))) > 1
    assert len(set(said("dice", seed=7))) == 1


def test_a_context_has_the_messages_already(client):
    history = [
        {"role": "user", "content": "weather in Accra"},
        {"role": "assistant", "content": "It is rainy."},
    ]
    client.create("child", from_=MODEL, messages=history)
    options = GREEDY | {"num_predict": 5}
    first = client.generate("child", "Who are you?", options=options)
    plain = client.generate(MODEL, "And now?", options=options).prompt_eval_count
    second = client.generate("child", "And now?", context=first.context, options=options)
    assert second.prompt_eval_count == len(first.context) + plain


def test_created_models_are_as_old_as_their_names(client):
    began = datetime.now(UTC) - timedelta(seconds=1)
    client.create("new", from_=MODEL)
    client.copy("new", "copied")
    listed = {model.model: model.modified_at for model in client.list().models}
    for name in ("new", "copied"):
        assert began < listed[name + ":latest"] < datetime.now(UTC)
        assert client.show(name).modified_at == listed[name + ":latest"]
    assert listed[MODEL + ":latest"] < began
