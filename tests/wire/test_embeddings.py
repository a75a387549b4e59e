"""Embeddings and rerankings through unmodified clients, against a BERT computed in NumPy."""

import base64
import json
import math
import shutil
import struct

import grpc
import numpy as np
import ollama
import openai
import pytest
from grpc_client import GrpcClient
from running_daemon import MODELS, ROOT, RunningDaemon

BERT = ROOT / "tests/goldens/bert"
CHAT = "mlxr-demo"


def read_safetensors(path):
    """Tensors by name, as float64 or int64."""
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = (8 + size + at for at in entry["data_offsets"])
        raw = data[begin:end]
        if entry["dtype"] == "BF16":
            wide = np.frombuffer(raw, "<u2").astype(np.uint32) << 16
            values = wide.view(np.float32).astype(np.float64)
        elif entry["dtype"] == "F32":
            values = np.frombuffer(raw, "<f4").astype(np.float64)
        else:
            values = np.frombuffer(raw, "<i4").astype(np.int64)
        tensors[name] = values.reshape(entry["shape"])
    return tensors


def write_safetensors(path, tensors):
    header, data = {}, b""
    for name, values in tensors.items():
        raw = values.astype("<f4").tobytes()
        header[name] = {
            "dtype": "F32",
            "shape": list(values.shape),
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


class Bert:
    """The reference: states in float64."""

    def __init__(self, folder, prefix=""):
        self.tensors = read_safetensors(folder / "model.safetensors")
        self.config = json.loads((folder / "config.json").read_text())
        self.prefix = prefix

    def __getitem__(self, name):
        return self.tensors[self.prefix + name]

    def linear(self, x, name):
        return x @ self[name + ".weight"].T + self[name + ".bias"]

    def norm(self, x, name):
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(-1, keepdims=True) + self.config["layer_norm_eps"])
        return x * self[name + ".weight"] + self[name + ".bias"]

    def states(self, ids, types=None):
        count = len(ids)
        x = self["embeddings.word_embeddings.weight"][ids]
        x = x + self["embeddings.token_type_embeddings.weight"][types or [0] * count]
        x = self.norm(
            x + self["embeddings.position_embeddings.weight"][:count], "embeddings.LayerNorm"
        )
        heads = self.config["num_attention_heads"]
        for layer in range(self.config["num_hidden_layers"]):
            at = f"encoder.layer.{layer}."
            q, k, v = (
                self.linear(x, at + "attention.self." + part)
                .reshape(count, heads, -1)
                .transpose(1, 0, 2)
                for part in ("query", "key", "value")
            )
            scores = np.exp(q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[-1]))
            mixed = (scores / scores.sum(-1, keepdims=True)) @ v
            mixed = mixed.transpose(1, 0, 2).reshape(count, -1)
            mixed = self.linear(mixed, at + "attention.output.dense")
            x = self.norm(x + mixed, at + "attention.output.LayerNorm")
            inner = self.linear(x, at + "intermediate.dense")
            inner = inner * 0.5 * (1 + np.vectorize(math.erf)(inner / math.sqrt(2)))
            x = self.norm(x + self.linear(inner, at + "output.dense"), at + "output.LayerNorm")
        return x

    def mean(self, ids, dimensions=None):
        vector = self.states(ids).mean(0)[:dimensions]
        return vector / np.linalg.norm(vector)


def token_ids(*words):
    vocab = json.loads((BERT / "tokenizer.json").read_text())["model"]["vocab"]
    return [vocab[word] for word in words]


CAT = token_ids("[CLS]", "hello", ",", "cat", "[SEP]")


@pytest.fixture(scope="module")
def reference():
    return Bert(BERT)


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory):
    """The golden encoder with a head that judges."""
    folder = tmp_path_factory.mktemp("models") / "judge"
    folder.mkdir()
    config = json.loads((BERT / "config.json").read_text())
    config |= {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "LABEL_0"}}
    (folder / "config.json").write_text(json.dumps(config))
    shutil.copy(BERT / "tokenizer.json", folder)
    tensors = {"bert." + n: v for n, v in read_safetensors(BERT / "model.safetensors").items()}
    random = np.random.default_rng(1)
    tensors["classifier.weight"] = random.normal(0, 0.3, (1, 128)).astype("f4").astype("f8")
    tensors["classifier.bias"] = np.array([0.1], "f4").astype("f8")
    write_safetensors(folder / "model.safetensors", tensors)
    return folder


@pytest.fixture(scope="module")
def served(cross_encoder):
    models = ("--model", MODELS / CHAT, "--model", BERT, "--model", cross_encoder)
    with RunningDaemon(*models) as running:
        yield running
        assert running.process.poll() is None, running.text()


@pytest.fixture
def http(served):
    with served.client() as client:
        yield client


@pytest.fixture
def openai_client(served):
    with openai.OpenAI(base_url=served.url + "/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def ollama_client(served):
    return ollama.Client(host=served.url)


# ---- OpenAI ----


def test_openai_gives_the_reference_vector(openai_client, reference):
    # The client asks for base64 by itself and decodes it.
    answer = openai_client.embeddings.create(model="bert", input="Hello, CAT")
    assert answer.object == "list"
    assert answer.model == "bert"
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == len(CAT)
    (item,) = answer.data
    assert (item.index, item.object) == (0, "embedding")
    np.testing.assert_allclose(item.embedding, reference.mean(CAT), atol=2e-4)
    assert np.linalg.norm(item.embedding) == pytest.approx(1, abs=1e-5)


def test_openai_takes_every_form_of_input(openai_client, reference):
    texts = ["hello, cat", "the old dog", "water"]
    together = openai_client.embeddings.create(model="bert", input=texts)
    assert [item.index for item in together.data] == [0, 1, 2]
    for text, item in zip(texts, together.data, strict=True):
        alone = openai_client.embeddings.create(model="bert", input=text).data[0].embedding
        assert alone == item.embedding
    tokens = openai_client.embeddings.create(model="bert", input=CAT).data[0].embedding
    assert tokens == together.data[0].embedding
    two = openai_client.embeddings.create(model="bert", input=[CAT, CAT[:3]]).data
    assert two[0].embedding == tokens
    np.testing.assert_allclose(two[1].embedding, reference.mean(CAT[:3]), atol=2e-4)


def test_openai_golden_states(http):
    golden = read_safetensors(BERT / "golden.safetensors")
    body = {"model": "bert", "input": golden["input_ids"].tolist()}
    got = http.post("/v1/embeddings", json=body).json()["data"][0]["embedding"]
    expected = golden["hidden"].mean(0)
    np.testing.assert_allclose(got, expected / np.linalg.norm(expected), atol=2e-4)


def test_float_and_base64_are_the_same_numbers(http):
    body = {"model": "bert", "input": "the cat"}
    plain = http.post("/v1/embeddings", json=body).json()
    coded = http.post("/v1/embeddings", json=body | {"encoding_format": "base64"}).json()
    raw = base64.b64decode(coded["data"][0]["embedding"])
    assert len(raw) == 128 * 4
    assert np.frombuffer(raw, "<f4").tolist() == [
        float(np.float32(x)) for x in plain["data"][0]["embedding"]
    ]


def test_dimensions_are_cut_and_normalised_again(openai_client, reference):
    answer = openai_client.embeddings.create(model="bert", input="hello, cat", dimensions=16)
    vector = answer.data[0].embedding
    assert len(vector) == 16
    np.testing.assert_allclose(vector, reference.mean(CAT, 16), atol=4e-4)
    with pytest.raises(openai.BadRequestError, match="129.*128") as refused:
        openai_client.embeddings.create(model="bert", input="a", dimensions=129)
    assert refused.value.param == "dimensions"


def test_a_chat_model_gives_its_last_state(openai_client):
    answer = openai_client.embeddings.create(
        model=CHAT, input=["a fox", "a fox and a lantern " * 60, "a fox"]
    )
    first, long, again = (item.embedding for item in answer.data)
    assert first == again
    assert first != long
    assert np.linalg.norm(long) == pytest.approx(1, abs=1e-5)


def test_openai_refusals(openai_client, http):
    for wrong, param in (
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": [5000]}, "input"),
        ({"input": [[1], [-1]]}, "input"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format"),
    ):
        answer = http.post("/v1/embeddings", json={"model": "bert"} | wrong)
        assert answer.status_code == 400, wrong
        assert answer.json()["error"]["param"] == param, wrong
    with pytest.raises(openai.BadRequestError, match="202 tokens.*128") as refused:
        openai_client.embeddings.create(model="bert", input=["a", "cat " * 200])
    assert refused.value.code == "context_length_exceeded"
    assert refused.value.param == "input[1]"
    with pytest.raises(openai.NotFoundError):
        openai_client.embeddings.create(model="brt", input="a")


def test_an_encoder_cannot_answer(openai_client, http):
    for ask in (
        lambda: openai_client.chat.completions.create(
            model="bert", messages=[{"role": "user", "content": "hi"}]
        ),
        lambda: openai_client.completions.create(model="bert", prompt="hi"),
    ):
        with pytest.raises(openai.BadRequestError, match="encoder.*embeddings"):
            ask()
    message = {"role": "user", "content": "hi"}
    for path, body in (
        ("/api/chat", {"messages": [message]}),
        ("/api/generate", {"prompt": "hi"}),
        ("/v1/messages", {"messages": [message], "max_tokens": 5}),
        ("/v1/responses", {"input": "hi"}),
    ):
        answer = http.post(path, json={"model": "bert"} | body)
        assert answer.status_code == 400, path
        assert "encoder" in answer.text, path


# ---- Ollama ----


def test_ollama_embed(ollama_client, reference):
    answer = ollama_client.embed(model="bert", input=["hello, cat", "the old dog"])
    assert answer.model == "bert"
    assert len(answer.embeddings) == 2
    np.testing.assert_allclose(answer.embeddings[0], reference.mean(CAT), atol=2e-4)
    assert answer.prompt_eval_count == len(CAT) + 5
    assert answer.total_duration > answer.load_duration >= 0
    one = ollama_client.embed(model="bert:latest", input="hello, cat", keep_alive="5m")
    assert one.embeddings == [answer.embeddings[0]]
    short = ollama_client.embed(model="bert", input="hello, cat", dimensions=8, options={"seed": 1})
    np.testing.assert_allclose(short.embeddings[0], reference.mean(CAT, 8), atol=4e-4)


def test_ollama_legacy_embeddings(ollama_client, http):
    modern = ollama_client.embed(model="bert", input="hello, cat").embeddings[0]
    assert ollama_client.embeddings(model="bert", prompt="hello, cat").embedding == modern
    assert http.post("/api/embeddings", json={"model": "bert"}).json() == {"embedding": []}


def test_ollama_truncates_unless_told_otherwise(ollama_client, reference):
    cut = ollama_client.embed(model="bert", input="cat " * 200)
    ids = token_ids("[CLS]", *["cat"] * 126, "[SEP]")
    np.testing.assert_allclose(cut.embeddings[0], reference.mean(ids), atol=2e-4)
    assert cut.prompt_eval_count == 128
    with pytest.raises(ollama.ResponseError, match="202 tokens.*128") as refused:
        ollama_client.embed(model="bert", input="cat " * 200, truncate=False)
    assert refused.value.status_code == 400


def test_ollama_loads_without_input(http):
    for body in ({}, {"input": ""}, {"input": []}):
        answer = http.post("/api/embed", json={"model": "bert"} | body).json()
        assert answer["embeddings"] == []
        assert answer["model"] == "bert"


def test_ollama_refusals(http):
    for body in (
        {"input": "a"},
        {"model": "bert", "input": 5},
        {"model": "bert", "input": "a", "dimensions": 129},
        {"model": "bert", "input": "a", "options": {"wings": 1}},
    ):
        answer = http.post("/api/embed", json=body)
        assert answer.status_code == 400, body
        assert set(answer.json()) == {"error"}


def test_ollama_shows_what_a_model_can_do(ollama_client):
    assert ollama_client.show("bert").capabilities == ["embedding"]
    assert "embedding" not in ollama_client.show(CHAT).capabilities


# ---- ranking ----

DOCUMENTS = ["the cat is small", "water", "a green tree, old and tall", "the dog"]


def test_a_cross_encoder_judges(http, cross_encoder):
    body = {"model": "judge", "query": "hello cat", "documents": DOCUMENTS}
    answer = http.post("/v1/rerank", json=body).json()
    bert = Bert(cross_encoder, "bert.")
    expected = {}
    for index, text in enumerate(DOCUMENTS):
        words = text.replace(",", " ,").replace("tall", "t ##al ##l").split()
        query = token_ids("[CLS]", "hello", "cat", "[SEP]")
        ids = query + token_ids(*words, "[SEP]")
        types = [0] * len(query) + [1] * (len(ids) - len(query))
        pooled = np.tanh(bert.linear(bert.states(ids, types)[0], "pooler.dense"))
        logit = (
            bert.tensors["classifier.weight"] @ pooled + bert.tensors["classifier.bias"]
        ).item()
        expected[index] = 1 / (1 + math.exp(-logit))
    results = answer["results"]
    assert [r["index"] for r in results] == sorted(expected, key=expected.get, reverse=True)
    for result in results:
        assert result["relevance_score"] == pytest.approx(expected[result["index"]], abs=1e-3)
    assert answer["usage"]["total_tokens"] > 20
    assert answer["model"] == "judge"


def test_other_models_compare_by_the_cosine(http, reference):
    ids = token_ids("[CLS]", "hello", "cat", "[SEP]")
    texts = {"water": ["water"], "hello cat": ["hello", "cat"], "the dog": ["the", "dog"]}
    body = {"model": "bert", "query": "hello cat", "documents": list(texts)}
    cohere = http.post("/v2/rerank", json=body).json()
    assert cohere["results"] == http.post("/v1/rerank", json=body).json()["results"]
    answer = http.post("/rerank", json=body | {"return_documents": True}).json()
    scores = {r["document"]["text"]: r["relevance_score"] for r in answer["results"]}
    for text, words in texts.items():
        other = reference.mean(token_ids("[CLS]", *words, "[SEP]"))
        assert scores[text] == pytest.approx(float(reference.mean(ids) @ other), abs=1e-3)
    assert answer["results"][0]["index"] == 1
    assert answer["results"][0]["relevance_score"] == pytest.approx(1, abs=1e-5)


def test_rerank_shows_the_best_alone(http):
    body = {"model": "judge", "query": "cat", "documents": [{"text": d} for d in DOCUMENTS]}
    whole = http.post("/v1/rerank", json=body).json()["results"]
    best = http.post("/v1/rerank", json=body | {"top_n": 2}).json()["results"]
    assert best == whole[:2]
    assert all("document" not in result for result in whole)


def test_rerank_refusals(http):
    for wrong, param in (
        ({"query": ""}, "query"),
        ({"documents": []}, "documents"),
        ({"documents": ["a", 1]}, "documents[1]"),
        ({"top_n": 0}, "top_n"),
        ({"documents": ["a", "cat " * 200]}, "documents[1]"),
    ):
        body = {"model": "judge", "query": "cat", "documents": ["a"]} | wrong
        answer = http.post("/v1/rerank", json=body)
        assert answer.status_code == 400, wrong
        assert answer.json()["error"]["param"] == param, wrong


def test_a_causal_model_judges_by_its_yes(start, tmp_path):
    (tmp_path / "configs/models").mkdir(parents=True)
    (tmp_path / f"configs/models/{CHAT}.yaml").write_text("pooling: rank\n")
    judge = start("--model", MODELS / CHAT, home=tmp_path)
    body = {"model": CHAT, "query": "capital of Norway", "documents": ["Oslo", "Paris"]}
    with judge.client() as http:
        results = http.post("/v1/rerank", json=body).json()["results"]
        again = http.post("/v1/rerank", json=body | {"documents": ["Paris"]}).json()["results"]
    scores = {r["index"]: r["relevance_score"] for r in results}
    assert set(scores) == {0, 1}
    assert all(0 < score < 1 for score in scores.values())
    assert list(scores.values()) == sorted(scores.values(), reverse=True)
    assert again[0]["relevance_score"] == scores[1]


# ---- gRPC ----


def test_grpc_embeds(served, reference):
    with GrpcClient(f"unix:{served.home}/mlxr-grpc.sock") as client:
        request = {
            "model": "bert",
            "inputs": [{"text": "hello, cat"}, {"tokens": {"ids": CAT[:3]}}],
        }
        answer = client.call("Inference/Embed", request)
        assert answer.model == "bert"
        assert answer.usage.prompt_tokens == len(CAT) + 3
        first, second = (list(e.values) for e in answer.embeddings)
        np.testing.assert_allclose(first, reference.mean(CAT), atol=2e-4)
        np.testing.assert_allclose(second, reference.mean(CAT[:3]), atol=2e-4)
        short = client.call("Inference/Embed", request | {"dimensions": 8})
        assert len(short.embeddings[0].values) == 8
        for wrong in (
            {"inputs": []},
            {"inputs": [{"text": ""}]},
            {"inputs": [{"text": "cat " * 200}]},
            {"dimensions": 0},
        ):
            with pytest.raises(grpc.RpcError) as refused:
                client.call("Inference/Embed", request | wrong)
            assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT, wrong
        cut = client.call(
            "Inference/Embed",
            {"model": "bert", "inputs": [{"text": "cat " * 200}], "truncate": True},
        )
        assert cut.usage.prompt_tokens == 128


# ---- many at once ----


def test_hundreds_of_texts_in_one_request(openai_client):
    texts = ["cat " * (1 + i % 90) for i in range(500)]
    answer = openai_client.embeddings.create(model="bert", input=texts)
    assert [item.index for item in answer.data] == list(range(500))
    assert answer.data[0].embedding == answer.data[90].embedding
    assert answer.data[0].embedding != answer.data[1].embedding
