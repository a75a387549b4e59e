"""Where servers that imitate these APIs commonly differ, on every route that answers."""

import json
import random
import time

import pytest
from running_daemon import RunningDaemon, chat_body, events_of
from test_disconnect import send
from test_http import raw
from test_metrics import scrape
from test_tools import TOOLS

MODEL = "mlxr-demo"
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
WINDOW = 128
FRAME = 10  # what the chat template adds to the words of one user message
HELLO = [{"role": "user", "content": "hi"}]
CLOCK = {"type": "function", "function": {"name": "get_time", "parameters": {"type": "object"}}}
UNENDING = 1_000_000


@pytest.fixture(scope="module")
def small():
    with RunningDaemon("--context-length", WINDOW) as running:
        yield running


@pytest.fixture
def narrow(small):
    with small.client() as client:
        yield client


@pytest.fixture(scope="module")
def slow():
    """One thread, and prompts that are read in small parts while answers run."""
    with RunningDaemon("--threads", "1", "--target-latency-ms", "1") as running:
        with running.client() as client:
            client.post(TEXT, json={"prompt": "a", "max_tokens": 1})
        yield running


def message_of(answer):
    """The message of an error in its API's shape."""
    path, body = answer.request.url.path, answer.json()
    if path.startswith("/api/"):
        assert set(body) == {"error"}
        return body["error"]
    if path.startswith("/v1/messages"):
        assert (set(body), body["type"]) == ({"type", "error", "request_id"}, "error")
        assert body["request_id"] == answer.headers["request-id"]
        assert set(body["error"]) == {"type", "message"}
    else:
        assert set(body["error"]) == {"message", "type", "param", "code"}
    return body["error"]["message"]


# ---- the model's name ----

# Of each route a body that is right, and what makes it wrong. To Ollama, messages, a prompt or an
# input that are missing are a request to load the model.
ROUTES = {
    CHAT: ({"messages": HELLO}, [{"messages": None}, {"messages": "hi"}, {"messages": [3]}]),
    TEXT: ({"prompt": "a"}, [{"prompt": None}, {"prompt": {}}]),
    "/v1/responses": ({"input": "a"}, [{"input": None}, {"input": 7}]),
    "/v1/embeddings": ({"input": "a"}, [{"input": None}, {"input": {}}]),
    "/v1/rerank": (
        {"query": "a", "documents": ["b"]},
        [{"query": None}, {"documents": None}, {"documents": "b"}],
    ),
    "/rerank": ({"query": "a", "documents": ["b"]}, [{"documents": []}]),
    "/tokenize": ({"content": "a"}, [{"content": None}, {"content": 3}]),
    "/detokenize": ({"tokens": [300]}, [{"tokens": None}, {"tokens": "a"}]),
    "/v1/messages": (
        {"messages": HELLO, "max_tokens": 3},
        [{"messages": None}, {"messages": "hi"}, {"max_tokens": None}],
    ),
    "/v1/messages/count_tokens": ({"messages": HELLO}, [{"messages": None}, {"messages": "hi"}]),
    "/api/chat": ({"messages": HELLO}, [{"messages": "hi"}, {"messages": [3]}]),
    "/api/generate": ({"prompt": "a"}, [{"prompt": 7}, {"prompt": "a", "options": 7}]),
    "/api/embed": ({"input": "a"}, [{"input": 7}, {"input": [3]}]),
    "/api/embeddings": ({"prompt": "a"}, [{"prompt": 7}]),
}


@pytest.mark.parametrize("path", ROUTES)
def test_a_bad_body_comes_before_an_unknown_model(http, path):
    right, wrongs = ROUTES[path]
    for wrong in wrongs:
        fields = {k: v for k, v in (right | wrong).items() if v is not None}
        answer = http.post(path, json={"model": "mlxr-dem", **fields})
        assert answer.status_code == 400, (wrong, answer.text)
        assert list(wrong)[-1] in message_of(answer)


@pytest.mark.parametrize("path", ROUTES)
def test_an_unknown_model_is_404_and_names_the_nearest(http, path):
    answer = http.post(path, json={"model": "mlxr-dem", **ROUTES[path][0]})
    assert answer.status_code == 404, answer.text
    assert 'did you mean "mlxr-demo"?' in message_of(answer)


# ---- the window ----


def words(count):
    """A user message whose chat has that many tokens."""
    return " a" * (count - FRAME)


def chat_of(count):
    return {"model": MODEL, "messages": [{"role": "user", "content": words(count)}]}


PROMPTS = {
    TEXT: lambda count: {"prompt": [300] * count},
    CHAT: chat_of,
    "/v1/responses": lambda count: {"input": words(count)},
    "/v1/messages": lambda count: chat_of(count) | {"max_tokens": 5},
    "/api/chat": lambda count: chat_of(count) | {"truncate": False, "shift": False},
    "/api/generate": lambda count: {"model": MODEL, "prompt": words(count), "shift": False},
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", PROMPTS)
def test_a_prompt_one_token_too_long_is_refused_with_both_numbers(narrow, path, stream):
    answer = narrow.post(path, json=PROMPTS[path](WINDOW + 1) | {"stream": stream})
    assert answer.status_code == 400, answer.text
    assert answer.headers["content-type"] == "application/json"
    numbers = message_of(answer).replace(",", " ").split()
    assert {str(WINDOW), str(WINDOW + 1)} <= set(numbers)


@pytest.mark.parametrize("path", PROMPTS)
def test_a_prompt_that_leaves_room_for_one_token_is_answered(narrow, path):
    answer = narrow.post(path, json=PROMPTS[path](WINDOW - 1) | {"stream": False})
    assert answer.status_code == 200, answer.text
    said = answer.json()
    used = said.get("usage", said)
    prompt = used.get("prompt_tokens") or used.get("prompt_eval_count") or used["input_tokens"]
    written = used.get("completion_tokens") or used.get("eval_count") or used["output_tokens"]
    assert prompt + used.get("cache_read_input_tokens", 0) == WINDOW - 1
    assert written == 1


@pytest.mark.parametrize(
    ("path", "body"), [(CHAT, {"messages": HELLO}), (TEXT, {"prompt": "Once upon a time"})]
)
@pytest.mark.parametrize("limit", [{}, {"max_tokens": None}])
def test_without_max_tokens_the_window_is_the_limit(narrow, path, body, limit):
    answer = narrow.post(path, json={**body, **limit, "temperature": 0, "ignore_eos": True}).json()
    used = answer["usage"]
    assert answer["choices"][0]["finish_reason"] == "length"
    assert used["prompt_tokens"] + used["completion_tokens"] == used["total_tokens"] == WINDOW


def listed_window(client):
    return {m["id"]: m["context_length"] for m in client.get("/v1/models").json()["data"]}[MODEL]


def test_the_list_says_the_window_whatever_the_memory(narrow, http, start):
    assert listed_window(narrow) == WINDOW
    assert listed_window(http) == 2048
    with start("--memory-bytes", "40MiB", "--kv-disk", "false").client() as client:
        assert listed_window(client) == 2048
        assert client.post(TEXT, json={"prompt": "a", "max_tokens": 1}).status_code == 200
        assert listed_window(client) == 2048


def test_the_listed_window_is_the_one_that_counts(start):
    with start("--kv-bytes", "2MiB", "--kv-disk", "false").client() as client:
        client.post(TEXT, json={"prompt": "a", "max_tokens": 1})
        listed = listed_window(client)
        answer = client.post(TEXT, json={"prompt": [300] * (listed - 1), "max_tokens": 1})
        assert answer.status_code == 200, answer.text


# ---- chat and completions ----


def chunks_of(http, path, body):
    with http.stream("POST", path, json=body | {"stream": True}) as answer:
        assert answer.status_code == 200
        *chunks, last = events_of(answer)
    assert last == "[DONE]"
    return chunks


def test_choices_of_one_stream_end_each_on_its_own(http):
    body = chat_body("Tell me a story about a fox.", n=2, seed=5, max_tokens=30, temperature=1)
    whole = http.post(CHAT, json=body).json()["choices"]
    assert whole[0]["message"]["content"] != whole[1]["message"]["content"]
    choices = [choice for chunk in chunks_of(http, CHAT, body) for choice in chunk["choices"]]
    assert {choice["index"] for choice in choices} == {0, 1}
    for index in (0, 1):
        mine = [choice for choice in choices if choice["index"] == index]
        text = "".join(choice["delta"].get("content") or "" for choice in mine)
        assert text == whole[index]["message"]["content"]
        reasons = [choice["finish_reason"] for choice in mine]
        assert set(reasons[:-1]) == {None}
        assert reasons[-1] == whole[index]["finish_reason"] is not None


def test_a_chats_logit_bias_counts(http):
    def ask(**fields):
        answer = http.post(CHAT, json=chat_body("Who are you?", max_tokens=12, **fields))
        return answer.json()["choices"][0]["message"]["content"]

    plain = ask()
    first, *_ = http.post("/tokenize", json={"content": plain}).json()["tokens"]
    said = http.post("/detokenize", json={"tokens": [first]}).json()["content"]
    assert plain.startswith(said)
    assert not ask(logit_bias={str(first): -100}).startswith(said)
    assert ask(logit_bias={str(first): 0}) == plain
    assert ask(logit_bias={str(first): 100}) == said * 12


@pytest.mark.parametrize("path", [CHAT, TEXT])
def test_usage_comes_last_and_only_when_asked_for(http, path):
    body = chat_body("hi") if path == CHAT else {"prompt": "Once"}
    body |= {"max_tokens": 4, "ignore_eos": True}
    *others, last = chunks_of(http, path, body | {"stream_options": {"include_usage": True}})
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 4
    assert all(chunk["choices"] and chunk["usage"] is None for chunk in others)
    for fields in ({}, {"stream_options": None}, {"stream_options": {"include_usage": False}}):
        chunks = chunks_of(http, path, body | fields)
        assert all(chunk["choices"] and "usage" not in chunk for chunk in chunks)


@pytest.mark.parametrize("fields", [{}, {"tools": TOOLS, "tool_choice": "required"}])
def test_the_first_delta_has_the_role_and_empty_content(http, fields):
    first, *others = chunks_of(http, CHAT, chat_body("weather in Accra", **fields))
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert not any("role" in chunk["choices"][0]["delta"] for chunk in others)


def named(name):
    return {"type": "function", "function": {"name": name}}


@pytest.mark.parametrize(
    ("choice", "name"),
    [
        ("required", "get_weather"),
        (named("get_weather"), "get_weather"),
        (named("get_time"), "get_time"),
    ],
)
def test_a_forced_call_ends_with_tool_calls(http, choice, name):
    body = chat_body("weather in Accra", tools=[*TOOLS, CLOCK], tool_choice=choice)
    whole = http.post(CHAT, json=body).json()["choices"][0]
    assert whole["finish_reason"] == "tool_calls"
    called = [call["function"] for call in whole["message"]["tool_calls"]]
    assert {call["name"] for call in called} == {name}
    assert all(isinstance(json.loads(call["arguments"]), dict) for call in called)
    chunks = [chunk["choices"][0] for chunk in chunks_of(http, CHAT, body)]
    reasons = [chunk["finish_reason"] for chunk in chunks if chunk["finish_reason"]]
    assert reasons == ["tool_calls"]
    pieces = [call for chunk in chunks for call in chunk["delta"].get("tool_calls", [])]
    streamed = "".join(call["function"].get("arguments", "") for call in pieces)
    assert streamed == "".join(call["arguments"] for call in called)


def test_a_required_call_comes_whatever_was_asked(http):
    for seed in range(6):
        body = chat_body("Who are you?", tools=[*TOOLS, CLOCK], tool_choice="required", seed=seed)
        choice = http.post(CHAT, json=body | {"temperature": 1.5, "max_tokens": 60}).json()[
            "choices"
        ][0]
        names = {call["function"]["name"] for call in choice["message"].get("tool_calls", [])}
        assert names, choice
        assert names <= {"get_weather", "get_time"}


# ---- going away ----

MANY = {"type": "array", "items": {"enum": [1, 2]}, "minItems": UNENDING}
OLLAMA = {"model": MODEL, "options": {"ignore_eos": True, "num_predict": -1}}
ENDLESS = {
    CHAT: chat_body("hi", max_tokens=UNENDING, ignore_eos=True, context_shift=True),
    "/v1/responses": {
        "input": "hi",
        "max_output_tokens": UNENDING,
        "ignore_eos": True,
        "context_shift": True,
    },
    # This API has no way to ignore the model's end: a schema does that.
    "/v1/messages": {
        "model": MODEL,
        "messages": HELLO,
        "max_tokens": UNENDING,
        "context_shift": True,
        "output_format": {"type": "json_schema", "schema": MANY},
    },
    "/api/chat": OLLAMA | {"messages": HELLO},
    "/api/generate": OLLAMA | {"prompt": "hi"},
}


def cancellations(daemon, path):
    lines = daemon.text().splitlines()
    return sum(f'route="POST {path}"' in line and "finish=cancelled" in line for line in lines)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", ENDLESS)
def test_closing_cancels_on_every_route(slow, path, stream):
    before = cancellations(slow, path)
    connection = send(slow, ENDLESS[path] | {"stream": stream}, path)
    slow.wait_until_running()
    if stream:
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
    connection.close()
    assert slow.wait_until_quiet() < 2
    deadline = time.monotonic() + 2
    while cancellations(slow, path) == before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert cancellations(slow, path) == before + 1


def wait_for_prompt_tokens(client, count, seconds=20):
    deadline = time.monotonic() + seconds
    while read_tokens(client) < count:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def read_tokens(client):
    return scrape(client)[1]["mlxr_prompt_tokens_total", (("model", MODEL),)]


def test_what_was_read_of_a_cancelled_prompt_is_kept(slow):
    """Beside a running answer the prompt is read in small parts, and broken off in the middle."""
    length = 1900
    prompt = random.Random(7).choices(range(300, 6000), k=length)
    with slow.client() as client:
        blocker = send(slow, ENDLESS[CHAT] | {"stream": True}, CHAT)
        slow.wait_until_running()
        before = read_tokens(client)
        connection = send(slow, {"prompt": prompt, "max_tokens": 1})
        wait_for_prompt_tokens(client, before + 200)
        connection.close()
        blocker.close()
        slow.wait_until_quiet()
        computed = read_tokens(client) - before
        assert 200 <= computed < length  # it was indeed broken off
        answer = client.post(TEXT, json={"prompt": prompt, "max_tokens": 1}).json()
    cached = answer["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert 0 < cached <= computed
    assert computed - cached < 64  # all full blocks


# ---- bodies ----


def test_who_asks_before_sending_too_much_is_told_at_once(start):
    daemon = start("--max-body-bytes", "2048")
    lines = [f"POST {CHAT} HTTP/1.1", "Host: localhost", "Expect: 100-continue"]
    lines += ["Connection: close", "Content-Length: 5000", "", ""]
    received = raw(daemon, "\r\n".join(lines).encode(), seconds=5)
    assert received.startswith(b"HTTP/1.1 413")
    assert b"100 Continue" not in received
    assert b"max_body_bytes" in received
