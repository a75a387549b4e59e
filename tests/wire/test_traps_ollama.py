"""What Ollama's clients rely on and servers often get wrong: formats with thoughts, idle streams,
keep_alive, names, durations, HEAD, images."""

import hashlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import jsonschema
import pytest
from scripted_model import write_scripted_model
from test_tools import QUESTION, TOOLS
from thinking_model import NAME as THINKER
from thinking_model import SUM, thinking_daemon

MODEL = "mlxr-demo"
CHAT, GENERATE = "/api/chat", "/api/generate"
ROUTES = [CHAT, GENERATE]
LENA = [{"role": "user", "content": "Lena is 41 years old. Give me name and age as JSON."}]
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
both_routes = pytest.mark.parametrize("path", ROUTES)
streamed_or_whole = pytest.mark.parametrize("stream", [False, True])


@pytest.fixture(scope="module")
def own():
    with thinking_daemon() as running:
        yield running


@pytest.fixture
def http(own):
    with own.client() as client:
        yield client


def body_of(path, messages, limit=200, **fields):
    """The same question for either route."""
    body = {"model": MODEL, "options": {"temperature": 0, "num_predict": limit}} | fields
    if path == CHAT:
        return {**body, "messages": messages}
    for message in messages:
        body["system" if message["role"] == "system" else "prompt"] = message["content"]
    return body


def lines_of(http, path, body):
    """The objects of an answer: one, or a line each."""
    answer = http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    if body.get("stream", True):
        return [json.loads(line) for line in answer.text.splitlines()]
    return [answer.json()]


def ask(http, path, messages, **fields):
    """The content, the thoughts and the last line of an answer."""
    lines = lines_of(http, path, body_of(path, messages, **fields))
    assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True]
    said = [line["message"] if path == CHAT else line for line in lines]
    field = "content" if path == CHAT else "response"
    thoughts = [part["thinking"] for part in said if "thinking" in part]
    assert all(thoughts)
    return "".join(part[field] for part in said), "".join(thoughts), lines[-1]


def loaded(http):
    return [model["name"] for model in http.get("/api/ps").json()["models"]]


# ---- formats and thoughts ----


@both_routes
@streamed_or_whole
def test_format_is_json_or_a_schema(http, path, stream):
    text, _, last = ask(http, path, LENA, stream=stream, format="json")
    assert last["done_reason"] == "stop"
    assert isinstance(json.loads(text), dict)
    text, _, last = ask(http, path, SUM, stream=stream, format=PERSON)
    assert last["done_reason"] == "stop"
    jsonschema.validate(json.loads(text), PERSON)


@both_routes
@streamed_or_whole
@pytest.mark.parametrize("think", [None, True, False, "low"])
def test_a_schema_is_for_the_content_and_not_for_the_thoughts(http, path, stream, think):
    fields = {} if think is None else {"think": think}
    text, thoughts, last = ask(
        http, path, SUM, model=THINKER, stream=stream, format=PERSON, **fields
    )
    assert last["done_reason"] == "stop"
    jsonschema.validate(json.loads(text), PERSON)
    assert ("63 + 81 = 144" in thoughts) == (think is not False)
    assert "think>" not in text + thoughts


@both_routes
def test_thoughts_that_never_close_do_not_end_an_answer_that_owes_json(start, tmp_path, path):
    write_scripted_model(tmp_path / "scripted", ["I do not know", " that."])
    template = "{{ messages[-1].content + '<think>\\n' }}"
    with start("--model-folders", tmp_path).client() as client:
        made = {"model": "muser", "from": "scripted", "template": template, "stream": False}
        assert client.post("/api/create", json=made).json() == {"status": "success"}
        text, thoughts, last = ask(
            client, path, LENA, model="muser", stream=False, format=PERSON, think=True
        )
    assert thoughts.startswith("I do not know that.")
    if last["done_reason"] == "stop":
        assert text, "the model ended in its thoughts"
        jsonschema.validate(json.loads(text), PERSON)


@both_routes
def test_thoughts_have_their_own_field(http, path):
    """Whole and streamed they are the same; without them the field is not there at all."""
    whole, streamed = (ask(http, path, SUM, think=True, stream=s) for s in (False, True))
    assert whole[:2] == streamed[:2]
    text, thoughts, _ = whole
    assert thoughts
    assert text
    assert "think>" not in text + thoughts
    for stream in (False, True):
        hidden, nothing, _ = ask(http, path, SUM, think=False, stream=stream)
        assert (hidden, nothing) == (text, "")


@both_routes
def test_streamed_thoughts_come_before_the_content(http, path):
    lines = lines_of(http, path, body_of(path, SUM, think=True))
    said = [line["message"] if path == CHAT else line for line in lines]
    field = "content" if path == CHAT else "response"
    kinds = [("t" if "thinking" in p else "") + ("c" if p[field] else "") for p in said]
    kinds = [kind for kind in kinds if kind]
    assert "".join(kinds) == "t" * kinds.count("t") + "c" * kinds.count("c")
    assert kinds[0] == "t"
    assert kinds[-1] == "c"


# ---- streams ----


def test_an_idle_stream_is_kept_alive_with_empty_messages(start):
    """While another request holds the only place, the waiting streams hear NDJSON all the same."""
    daemon = start("--threads", "1", "--max-sequences", "1")
    blocker = {"prompt": "Once", "ignore_eos": True, "stream": True, "context_shift": True}
    blocker["max_tokens"] = 1_000_000

    def first_line(path):
        body = body_of(path, LENA, limit=1)
        with daemon.client() as client, client.stream("POST", path, json=body) as answer:
            assert answer.headers["content-type"] == "application/x-ndjson"
            return json.loads(next(answer.iter_lines()))

    with daemon.client() as client, client.stream("POST", "/v1/completions", json=blocker):
        daemon.wait_until_running()
        with ThreadPoolExecutor(2) as pool:
            chat, generate = pool.map(first_line, ROUTES)
        assert sum(model["running"] for model in daemon.ps()) == 1
    assert chat["message"] == {"role": "assistant", "content": ""}
    assert generate["response"] == ""
    for line in (chat, generate):
        assert line["model"] == MODEL
        assert line["done"] is False
        assert "done_reason" not in line
    daemon.wait_until_quiet()


@both_routes
def test_an_error_after_the_headers_is_the_last_line(http, path):
    options = {"temperature": 0, "ignore_eos": True, "num_predict": 1_000_000}
    lines = lines_of(http, path, body_of(path, LENA, timeout=0.3) | {"options": options})
    assert len(lines) > 1
    assert not any(line["done"] for line in lines[:-1])
    assert set(lines[-1]) == {"error"}
    assert "timeout of 300 ms" in lines[-1]["error"]


@both_routes
@streamed_or_whole
def test_the_last_line_counts_and_times_in_nanoseconds(http, path, stream):
    _, _, last = ask(http, path, LENA, stream=stream, limit=8)
    assert (last["done"], last["done_reason"]) == (True, "length")
    names = ["total_duration", "load_duration", "prompt_eval_duration", "eval_duration"]
    for name in [*names, "prompt_eval_count", "eval_count"]:
        assert type(last[name]) is int, name
    assert last["eval_count"] == 8
    assert last["prompt_eval_count"] > 8
    total, load, prompt, answer = (last[name] for name in names)
    assert total >= prompt + answer
    assert total >= load >= 0
    # Milliseconds or microseconds would be much less.
    assert answer > 10_000
    assert prompt > 10_000


# ---- keep_alive ----


@both_routes
def test_keep_alive_of_zero_ends_with_the_answer(start, path):
    with start().client() as client:
        text, _, last = ask(client, path, LENA, keep_alive=0, stream=True)
        assert text
        assert last["done_reason"] == "stop"
        deadline = time.monotonic() + 5
        while loaded(client) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert loaded(client) == []


# -1 is never, which Ollama's clients are told as a time that they will not see.
@pytest.mark.parametrize(("keep_alive", "seconds"), [(-1, 1e9), ("5m", 300), (300, 300)])
def test_keep_alive_keeps(start, keep_alive, seconds):
    with start().client() as client:
        ask(client, CHAT, LENA, keep_alive=keep_alive, limit=2, stream=False)
        (model,) = client.get("/api/ps").json()["models"]
    assert model["name"] == MODEL + ":latest"
    ends = datetime.fromisoformat(model["expires_at"][:19] + "+00:00")
    left = (ends - datetime.now(UTC)).total_seconds()
    assert left > seconds if seconds > 300 else seconds - 30 < left <= seconds


@pytest.mark.parametrize(
    ("path", "empty"),
    [(CHAT, {"messages": []}), (CHAT, {}), (GENERATE, {"prompt": ""}), (GENERATE, {})],
)
def test_an_empty_prompt_loads(start, path, empty):
    with start().client() as client:
        assert loaded(client) == []
        (line,) = lines_of(client, path, {"model": MODEL, **empty})
        assert (line["done"], line["done_reason"]) == (True, "load")
        assert loaded(client) == [MODEL + ":latest"]


# ---- what is asked for ----


def test_generate_reads_a_system_prompt(http):
    system = {"role": "system", "content": "Think first, then answer."}
    question = {"role": "user", "content": "What is 63 + 81 - 88?"}
    told = ask(http, GENERATE, [system, question], stream=False)
    chat = ask(http, CHAT, [system, question], stream=False)
    assert told[:2] == chat[:2]
    assert told[2]["prompt_eval_count"] == chat[2]["prompt_eval_count"]
    alone = ask(http, GENERATE, [question], stream=False)
    assert alone[2]["prompt_eval_count"] < told[2]["prompt_eval_count"]


@both_routes
@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"options": {"wings": 1}}, '"options.wings"'),
        ({"options": {"tfs_z": 0.5}}, '"options.tfs_z"'),
        ({"options": {"penalize_newline": 1}}, '"options.penalize_newline"'),
        ({"options": {"num_gpu": "all"}}, '"options.num_gpu"'),
        ({"options": {"temperature": "hot"}}, "temperature"),
        ({"options": {"num_predict": -3}}, "num_predict"),
        ({"options": 7}, '"options"'),
        ({"logprobs": 1}, '"logprobs"'),
        ({"logprobs": True, "top_logprobs": 21}, '"top_logprobs"'),
        ({"think": "much"}, '"think"'),
        ({"format": "xml"}, '"format"'),
        ({"format": {"type": "strin"}}, "strin"),
        ({"keep_alive": "soon"}, '"keep_alive"'),
    ],
)
def test_what_is_refused_is_named(http, path, fields, named):
    answer = http.post(path, json=body_of(path, LENA, stream=False) | fields)
    assert answer.status_code == 400, answer.text
    assert set(answer.json()) == {"error"}
    assert named in answer.json()["error"]


def test_a_template_of_a_request_is_refused(http):
    body = body_of(GENERATE, LENA, stream=False, limit=1)
    answer = http.post(GENERATE, json=body | {"template": "{{ .Prompt }}"})
    assert answer.status_code == 400
    assert '"template"' in answer.json()["error"]
    assert http.post(GENERATE, json=body | {"template": ""}).status_code == 200


@both_routes
@streamed_or_whole
def test_images_are_refused_in_one_sentence(http, path, stream):
    pictures = {"images": ["aGVsbG8="]}
    if path == CHAT:
        body = body_of(path, [LENA[0] | pictures], stream=stream)
    else:
        body = body_of(path, LENA, stream=stream) | pictures
    answer = http.post(path, json=body)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()["error"]
    assert "images" in error
    assert "\n" not in error
    # None are none.
    empty = {"images": []}
    if path == CHAT:
        body = body_of(path, [LENA[0] | empty], stream=stream, limit=1)
    else:
        body = body_of(path, LENA, stream=stream, limit=1) | empty
    assert http.post(path, json=body).status_code == 200


# ---- names, HEAD, calls ----


def test_get_and_head(http):
    root = http.get("/")
    assert (root.status_code, root.text) == (200, "Ollama is running")
    for path in ("/", "/api/version", "/api/tags"):
        head = http.head(path)
        assert (head.status_code, head.content) == (200, b""), path
        got = http.get(path)
        for name in ("content-type", "content-length"):
            assert head.headers[name] == got.headers[name], path


def test_head_tells_whether_a_blob_is_there(start):
    content = b"not much of a model"
    path = "/api/blobs/sha256:" + hashlib.sha256(content).hexdigest()
    with start().client() as client:
        assert client.head(path).status_code == 404
        assert client.post(path, content=b"other bytes").status_code == 400
        assert client.head(path).status_code == 404
        assert client.post(path, content=content).status_code == 201
        assert client.head(path).status_code == 200


def test_latest_is_the_same_model(http):
    plain, latest = (
        http.post("/api/show", json={"model": name}).json() for name in (MODEL, MODEL + ":latest")
    )
    assert plain["model_info"] == latest["model_info"]
    assert plain["template"] == latest["template"]
    for path in ROUTES:
        first = ask(http, path, LENA, stream=False)
        second = ask(http, path, LENA, stream=False, model=MODEL + ":latest")
        assert first[:2] == second[:2]
        assert second[2]["model"] == MODEL + ":latest"
    vectors = [
        http.post("/api/embed", json={"model": name, "input": "a fox"}).json()["embeddings"]
        for name in (MODEL, MODEL + ":latest")
    ]
    assert vectors[0] == vectors[1]
    assert len(vectors[0]) == 1
    for name in (MODEL + ":other", MODEL + ":latest:latest"):
        missing = http.post(CHAT, json=body_of(CHAT, LENA, model=name))
        assert missing.status_code == 404, name
        assert set(missing.json()) == {"error"}


@streamed_or_whole
def test_arguments_of_calls_are_objects(http, stream):
    lines = lines_of(http, CHAT, body_of(CHAT, QUESTION, stream=stream, tools=TOOLS))
    calls = [c for line in lines for c in line["message"].get("tool_calls", [])]
    assert [c["function"] for c in calls] == [
        {"name": "get_weather", "arguments": {"city": "Accra"}}
    ]
    assert "tool_call" not in "".join(line["message"]["content"] for line in lines)
    assert lines[-1]["done_reason"] == "stop"


@streamed_or_whole
def test_parallel_calls_are_an_entry_each(start, tmp_path, stream):
    pieces = ['<tool_call>\n{"name": "get_weather", ', '"arguments": {"city": ', '"Accra"}}\n']
    pieces += ["</tool_call>\n", '<tool_call>\n{"name": "get_weather", "arguments"']
    pieces += [': {"city": "Oslo", "days": 3}}', "\n</tool_call>"]
    write_scripted_model(tmp_path / "scripted", pieces)
    with start("--model-folders", tmp_path).client() as client:
        body = body_of(CHAT, QUESTION, model="scripted", stream=stream, tools=TOOLS)
        lines = lines_of(client, CHAT, body)
    calls = [c for line in lines for c in line["message"].get("tool_calls", [])]
    assert [c["function"] for c in calls] == [
        {"name": "get_weather", "arguments": {"city": "Accra"}},
        {"name": "get_weather", "arguments": {"city": "Oslo", "days": 3}},
    ]
    assert "".join(line["message"]["content"] for line in lines).strip() == ""
    assert (lines[-1]["done"], lines[-1]["done_reason"]) == (True, "stop")


# ---- options, raw ----


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 2.5},
        {"temperature": -1},
        {"presence_penalty": 3, "frequency_penalty": -3},
        {"top_p": 1.5, "min_p": -0.5},
        {"penalize_newline": False},
        {"seed": -1},
    ],
)
def test_options_have_ollamas_ranges(http, options):
    answer = http.post(CHAT, json=body_of(CHAT, LENA, limit=2) | {"options": options})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("options", [{"temperature": 101}, {"penalize_newline": 1}, {"seed": 0.5}])
def test_options_that_mean_nothing_are_refused(http, options):
    answer = http.post(CHAT, json=body_of(CHAT, LENA, limit=2) | {"options": options})
    assert answer.status_code == 400, answer.text


def test_openais_ranges_stay(http):
    for options in ({"temperature": 2.5}, {"presence_penalty": 3}, {"frequency_penalty": -3}):
        for path, body in (
            ("/v1/chat/completions", {"messages": LENA}),
            ("/v1/completions", {"prompt": "a"}),
            ("/v1/responses", {"input": "a"}),
        ):
            answer = http.post(path, json=body | options)
            assert answer.status_code == 400, (path, options)
            assert answer.json()["error"]["param"] == next(iter(options))


def test_raw_has_no_context(http):
    body = {"model": "mlxr-demo", "prompt": "Once", "options": {"num_predict": 2}, "stream": False}
    assert http.post(GENERATE, json=body).json()["context"]
    assert "context" not in http.post(GENERATE, json=body | {"raw": True}).json()


@pytest.mark.parametrize("field", [{"system": "Be brief."}, {"template": "x"}, {"context": [1]}])
def test_raw_takes_nothing_of_a_conversation(http, field):
    body = {"model": "mlxr-demo", "prompt": "Once", "raw": True, "options": {"num_predict": 2}}
    answer = http.post(GENERATE, json=body | field)
    assert answer.status_code == 400
    assert answer.json()["error"] == "raw mode does not support template, system, or context"
    empty = {name: type(value)() for name, value in field.items()}
    assert http.post(GENERATE, json=body | empty).status_code == 200
