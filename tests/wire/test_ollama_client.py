"""The unmodified ollama client, and the details of the wire that other clients rely on."""

import json
import time

import ollama
import pytest
from test_tools import QUESTION, TOOLS

MODEL = "mlxr-demo"
WHO = [{"role": "user", "content": "Who are you?"}]
GREEDY = {"temperature": 0}


@pytest.fixture
def client(daemon):
    return ollama.Client(host=daemon.url)


def test_root_and_head(http):
    assert http.get("/").text == "Ollama is running"
    for path in ("/", "/api/version", "/api/tags"):
        assert http.head(path).status_code == 200
    assert http.head("/api/blobs/sha256:" + "0" * 64).status_code == 404
    version = http.get("/api/version").json()
    # Clients ask for Ollama's: VS Code's Copilot for at least 0.6.4.
    assert tuple(map(int, version["version"].split("."))) >= (0, 6, 4)
    assert version["mlxr"] == http.get("/health").json()["version"]


def test_chat(client):
    answer = client.chat(MODEL, WHO, options=GREEDY)
    assert "mlxr-demo" in answer.message.content
    assert (answer.done, answer.done_reason, answer.model) == (True, "stop", MODEL)
    assert answer.prompt_eval_count == 14
    assert answer.eval_count > 3
    assert 0 < answer.eval_duration + answer.prompt_eval_duration <= answer.total_duration
    assert answer.created_at.endswith("Z")


def test_streamed_chat_equals_the_whole_one(client):
    whole = client.chat(MODEL + ":latest", WHO, options=GREEDY)
    parts = list(client.chat(MODEL + ":latest", WHO, options=GREEDY, stream=True))
    assert "".join(p.message.content for p in parts) == whole.message.content
    assert [p.done for p in parts] == [False] * (len(parts) - 1) + [True]
    assert parts[-1].eval_count == whole.eval_count


def test_stream_is_ndjson(http):
    with http.stream("POST", "/api/chat", json={"model": MODEL, "messages": WHO}) as answer:
        assert answer.headers["content-type"] == "application/x-ndjson"
        lines = [json.loads(line) for line in answer.iter_lines()]
    assert {
        "done_reason",
        "total_duration",
        "load_duration",
        "prompt_eval_count",
        "prompt_eval_duration",
        "eval_count",
        "eval_duration",
    } <= lines[-1].keys()


def test_tool_calls_are_objects(client):
    for stream in (False, True):
        answer = client.chat(MODEL, QUESTION, tools=TOOLS, options=GREEDY, stream=stream)
        calls = [c for p in (answer if stream else [answer]) for c in p.message.tool_calls or []]
        assert [(c.function.name, c.function.arguments) for c in calls] == [
            ("get_weather", {"city": "Accra"})
        ]


def test_thinking(client):
    messages = [
        {"role": "system", "content": "Think first, then answer."},
        {"role": "user", "content": "What is 63 + 81 - 88?"},
    ]
    shown = client.chat(MODEL, messages, think=True, options=GREEDY).message
    hidden = client.chat(MODEL, messages, think=False, options=GREEDY).message
    assert shown.thinking
    assert hidden.thinking is None
    assert "<think>" not in shown.content + hidden.content


def test_generate_with_context(client):
    first = client.generate(MODEL, "Who are you?", options=GREEDY)
    assert "mlxr-demo" in first.response
    second = client.generate(MODEL, "Who are you?", context=first.context, options=GREEDY)
    assert second.prompt_eval_count == first.prompt_eval_count + len(first.context)


def test_generate_raw_and_suffix(client):
    raw = client.generate(MODEL, "Once upon a time", raw=True, options={"num_predict": 5})
    assert raw.eval_count == 5
    assert raw.done_reason == "length"
    prefix = 'def sort_list(words):\n    """Sort a list."""\n    '
    filled = client.generate(MODEL, prefix, suffix="\n", options=GREEDY)
    assert filled.response == "return sorted(words)"


def test_models(client):
    (model,) = [m for m in client.list().models if m.model == MODEL + ":latest"]
    assert model.size > 0
    assert len(model.digest) == 64
    shown = client.show(MODEL)
    assert {"completion", "tools", "insert", "thinking"} <= set(shown.capabilities)
    architecture = shown.modelinfo["general.architecture"]
    assert shown.modelinfo[architecture + ".context_length"] == 2048
    client.generate(MODEL)
    assert MODEL + ":latest" in [m.model for m in client.ps().models]


def test_keep_alive(start):
    daemon = start()
    client = ollama.Client(host=daemon.url)
    assert client.generate(MODEL).done_reason == "load"
    assert len(daemon.ps()) == 1
    assert client.generate(MODEL, keep_alive=0).done_reason == "unload"
    assert daemon.ps() == []
    client.chat(MODEL, WHO, keep_alive="300ms", options={"num_predict": 2})
    deadline = time.monotonic() + 5
    while daemon.ps() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert daemon.ps() == []
    client.chat(MODEL, WHO, keep_alive=-1, options={"num_predict": 2})
    time.sleep(0.5)
    assert len(daemon.ps()) == 1


def test_errors_have_ollamas_shape(client, http):
    with pytest.raises(ollama.ResponseError) as caught:
        client.chat("mlxr-dem", WHO)
    assert caught.value.status_code == 404
    assert "mlxr-demo" in caught.value.error
    for body in ({}, {"model": MODEL, "messages": "x"}, {"model": MODEL, "options": {"wings": 1}}):
        answer = http.post("/api/chat", json=body)
        assert answer.status_code == 400
        assert set(answer.json()) == {"error"}
    long = http.post("/api/generate", json={"model": MODEL, "prompt": "word " * 5000})
    assert long.status_code == 400
    assert "2048" in long.json()["error"]
    assert http.post("/api/nothing", json={}).status_code == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/pull"),
        ("POST", "/api/push"),
    ],
)
def test_what_is_missing_says_so(http, method, path):
    answer = http.request(method, path, json={"model": MODEL})
    assert answer.status_code == 501
    assert answer.json()["error"]
