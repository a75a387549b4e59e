"""logprobs and top_logprobs with the unmodified ollama client."""

import ollama
import pytest
from test_tools import TOOLS

MODEL = "mlxr-demo"
GREEDY = {"temperature": 0, "num_predict": 60}
WHO = "Who are you?"
THINK = [
    {"role": "system", "content": "Think first, then answer."},
    {"role": "user", "content": "What is 63 + 81 - 88?"},
]
CALL = [{"role": "user", "content": "weather in Accra"}]


@pytest.fixture
def client(daemon):
    return ollama.Client(host=daemon.url)


def generate(client, **fields):
    return client.generate(MODEL, WHO, options=GREEDY, **fields)


def chat(client, messages, **fields):
    return client.chat(MODEL, messages, options=GREEDY, **fields)


def joined(entries):
    return "".join(e.token for e in entries or [])


def test_generate(client):
    whole = generate(client, logprobs=True, top_logprobs=2)
    assert joined(whole.logprobs) == whole.response
    for entry in whole.logprobs:
        assert len(entry.top_logprobs) == 2
        assert entry.logprob == entry.top_logprobs[0].logprob <= 0  # greedy takes the best
        assert entry.token == entry.top_logprobs[0].token
    parts = list(generate(client, logprobs=True, top_logprobs=2, stream=True))
    assert all(joined(p.logprobs) == p.response for p in parts)
    assert [e for p in parts for e in p.logprobs or []] == whole.logprobs


def test_raw_prompts(client):
    whole = generate(client, logprobs=True, raw=True)
    assert joined(whole.logprobs) == whole.response


def test_chat(client):
    whole = chat(client, [{"role": "user", "content": WHO}], logprobs=True)
    assert joined(whole.logprobs) == whole.message.content
    assert all(e.top_logprobs is None for e in whole.logprobs)


def test_thoughts_have_theirs_with_them(client):
    whole = chat(client, THINK, logprobs=True)
    assert whole.message.thinking
    parts = list(chat(client, THINK, logprobs=True, stream=True))
    assert [e for p in parts for e in p.logprobs or []] == whole.logprobs
    said = [p for p in parts if p.message.content]
    assert "".join(joined(p.logprobs) for p in said).strip() == whole.message.content.strip()
    quiet = chat(client, THINK, logprobs=True, think=False)
    assert joined(quiet.logprobs).strip() == quiet.message.content.strip()


def test_calls_have_none(client):
    whole = chat(client, CALL, tools=TOOLS, logprobs=True)
    assert whole.message.tool_calls
    assert not whole.logprobs


def test_the_wire(http):
    body = {"model": MODEL, "prompt": WHO, "stream": False, "options": GREEDY}
    told = http.post("/api/generate", json=body | {"logprobs": True, "top_logprobs": 1}).json()
    for entry in told["logprobs"]:
        assert bytes(entry["bytes"]).decode() == entry["token"]
        (top,) = entry["top_logprobs"]
        assert set(top) == {"token", "logprob", "bytes"}
    for unasked in ({}, {"logprobs": False}, {"top_logprobs": 3}):
        assert "logprobs" not in http.post("/api/generate", json=body | unasked).json()
