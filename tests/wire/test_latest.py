"""A name without a tag means ":latest", as in Ollama: in every API."""

import anthropic
import openai
import pytest
from grpc_client import GrpcClient, text_of
from running_daemon import MODELS, chat_body

MODEL = "mlxr-demo:latest"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
def test_in_conversations(http, path):
    ask = {"model": MODEL, "temperature": 0}
    if path == "/v1/responses":
        ask |= {"input": "Who are you?", "max_output_tokens": 4}
    else:
        ask |= chat_body("Who are you?") | {"max_tokens": 4}
    answer = http.post(path, json=ask)
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == "mlxr-demo"


def test_in_completions_embeddings_and_lists(http):
    body = {"model": MODEL, "prompt": "a", "max_tokens": 1}
    assert http.post("/v1/completions", json=body).status_code == 200
    assert http.get("/v1/models/" + MODEL).json()["id"] == "mlxr-demo"
    assert http.get("/mlxr/v1/models/" + MODEL).json()["name"] == "mlxr-demo"
    assert http.post("/mlxr/v1/load", json={"name": MODEL}).json()["name"] == "mlxr-demo"
    assert http.post("/tokenize", json={"model": MODEL, "content": "a"}).status_code == 200


def test_in_grpc(daemon):
    with GrpcClient(f"unix:{daemon.home / 'mlxr-grpc.sock'}") as rpc:
        events = list(rpc.chat("Who are you?", model=MODEL, options={"max_tokens": 4}))
        assert events[0].start.model == "mlxr-demo"
        assert text_of(events)


def test_other_tags_are_other_models(http):
    for name in ("mlxr-demo:7b", "mlxr-demo:latest:latest", ":latest"):
        body = chat_body("Hi", model=name)
        assert http.post("/v1/chat/completions", json=body).status_code == 404, name


def test_of_created_models_everywhere(start):
    with start().client() as http:
        made = {"model": "mine:latest", "from": MODEL, "stream": False}
        assert http.post("/api/create", json=made).status_code == 200
        copied = {"source": "mine:latest", "destination": "second:latest"}
        assert http.post("/api/copy", json=copied).status_code == 200
        names = [model["id"] for model in http.get("/v1/models").json()["data"]]
        assert {"mine", "second"} <= set(names)
        for name in ("mine", "mine:latest"):
            assert http.get("/v1/models/" + name).json()["id"] == "mine"
        assert http.delete("/v1/models/mine:latest").status_code == 200
        assert http.request("DELETE", "/api/delete", json={"model": "second:latest"}).is_success
        names = [model["id"] for model in http.get("/v1/models").json()["data"]]
        assert names == ["mlxr-demo"]


def test_where_the_daemon_is_started(start):
    daemon = start("--model-folders", MODELS, "--model", "mlxr-demo-draft:latest")
    assert [model["name"] for model in daemon.ps()] == ["mlxr-demo-draft"]


def test_with_unmodified_clients(daemon):
    with openai.OpenAI(base_url=daemon.url + "/v1", api_key="none", max_retries=0) as client:
        assert client.models.retrieve(MODEL).id == "mlxr-demo"
    with anthropic.Anthropic(base_url=daemon.url, api_key="none", max_retries=0) as client:
        who = [{"role": "user", "content": "Who are you?"}]
        assert client.messages.create(model=MODEL, max_tokens=3, messages=who).content
