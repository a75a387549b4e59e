"""Schemas with and without thoughts, streams, tools and company: each answer fits its own schema.

Every request of a case has another question, another schema and another seed.
"""

import json
from concurrent.futures import ThreadPoolExecutor

import jsonschema
import pytest
from running_daemon import RunningDaemon, events_of
from scripted_model import write_scripted_model
from test_tools import TOOLS
from thinking_model import NAME, SUM, thinking_daemon

OPENAI, OLLAMA = "/v1/chat/completions", "/api/chat"
LIMIT = 300


def closed(**properties):
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


SCHEMAS = [
    closed(answer={"type": "integer", "minimum": 0, "maximum": 999}),
    closed(
        name={"type": "string", "minLength": 1, "maxLength": 12},
        age={"type": "integer", "minimum": 0, "maximum": 120},
    ),
    closed(
        steps={
            "type": "array",
            "items": closed(sum={"enum": ["63 + 81", "144 - 88"]}, ok={"type": "boolean"}),
            "minItems": 1,
            "maxItems": 2,
        }
    ),
    {"enum": ["fifty-six", 56, None]},
]
THINK = SUM[0]


def question(text):
    return [THINK, {"role": "user", "content": text}]


QUESTIONS = [
    SUM,
    question("What is 12 + 7 - 3?"),
    question("What is 63 + 81 - 88?"),
    question("What is 40 + 2?"),
]


@pytest.fixture(scope="module")
def thinker():
    with thinking_daemon() as running:
        yield running


def openai_body(schema, think, seed, temperature):
    form = {"name": "answer", "schema": schema, "strict": True}
    return {
        "response_format": {"type": "json_schema", "json_schema": form},
        "chat_template_kwargs": {"enable_thinking": think},
        "temperature": temperature,
        "seed": seed,
        "max_tokens": LIMIT,
    }


def ollama_body(schema, think, seed, temperature):
    options = {"temperature": temperature, "seed": seed, "num_predict": LIMIT}
    return {"format": schema, "think": think, "options": options}


def openai_parts(client, body):
    """Messages or deltas, and the reason of the end."""
    if not body["stream"]:
        answer = client.post(OPENAI, json=body)
        assert answer.status_code == 200, answer.text
        (choice,) = answer.json()["choices"]
        return [choice["message"]], choice["finish_reason"]
    with client.stream("POST", OPENAI, json=body) as answer:
        events = list(events_of(answer))
    assert events.pop() == "[DONE]"
    choices = [event["choices"][0] for event in events]
    reasons = [c["finish_reason"] for c in choices if c["finish_reason"]]
    assert len(reasons) == 1
    return [c["delta"] for c in choices], reasons[0]


def ollama_parts(client, body):
    answer = client.post(OLLAMA, json=body)
    assert answer.status_code == 200, answer.text
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True]
    return [line["message"] for line in lines], lines[-1]["done_reason"]


ROUTES = {OPENAI: (openai_body, openai_parts), OLLAMA: (ollama_body, ollama_parts)}


def ask(
    daemon, route, messages, schema, *, think, stream, tools, model=NAME, seed=0, temperature=0
):
    """The content, the thoughts, the calls (or their fragments) and the reason of the end."""
    make, parts_of = ROUTES[route]
    body = make(schema, think, seed, temperature)
    body |= {"model": model, "messages": messages, "stream": stream}
    if tools:
        body["tools"] = TOOLS
    with daemon.client() as client:
        parts, reason = parts_of(client, body)
    content = "".join(p.get("content") or "" for p in parts)
    thoughts = "".join(p.get("reasoning") or p.get("thinking") or "" for p in parts)
    return content, thoughts, [c for p in parts for c in p.get("tool_calls") or []], reason


def check(answer, route, schema, *, think, tools):
    """Says whether it is JSON; where there are tools it may be a call."""
    content, thoughts, calls, reason = answer
    assert bool(thoughts) == think
    assert "think>" not in content + thoughts
    assert "63 + 81 = 144" not in content
    if calls:
        assert tools
        assert content == ""
        assert reason == ("tool_calls" if route == OPENAI else "stop")
        return False
    assert reason == "stop"
    jsonschema.validate(json.loads(content), schema)
    return True


every_way = pytest.mark.parametrize(
    ("think", "stream", "tools"),
    [(t, s, c) for t in (False, True) for s in (False, True) for c in (False, True)],
    ids=lambda on: "on" if on else "off",
)
each_route = pytest.mark.parametrize("route", ROUTES, ids=["openai", "ollama"])


@each_route
@every_way
@pytest.mark.parametrize("count", [1, 4])
def test_each_answer_fits_its_own_schema(thinker, route, think, stream, tools, count):
    def one(i):
        return ask(
            thinker, route, QUESTIONS[i], SCHEMAS[i], think=think, stream=stream, tools=tools
        )

    with ThreadPoolExecutor(count) as pool:
        answers = list(pool.map(one, range(4)))
    assert sum(
        check(answer, route, schema, think=think, tools=tools)
        for answer, schema in zip(answers, SCHEMAS, strict=True)
    ) >= (2 if tools else 4)


@each_route
@pytest.mark.parametrize("stream", [False, True])
def test_hot_answers_at_once_fit_their_own_schemas(thinker, route, stream):
    """Each schema twice, with another seed: eight draws that share their steps."""

    def one(i):
        return ask(
            thinker,
            route,
            QUESTIONS[i % 4],
            SCHEMAS[i % 4],
            think=False,
            stream=stream,
            tools=False,
            seed=i,
            temperature=1.5,
        )

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(one, range(8)))
    for i, answer in enumerate(answers):
        assert check(answer, route, SCHEMAS[i % 4], think=False, tools=False)
    assert len({content for content, *_ in answers}) > 4


@each_route
def test_company_changes_no_answer(thinker, route):
    """Half of them think and half have tools; each says what it says alone."""

    def one(i):
        return ask(
            thinker,
            route,
            QUESTIONS[i],
            SCHEMAS[i],
            think=i % 2 == 0,
            stream=i > 1,
            tools=i in (0, 3),
        )[:2]

    alone = [one(i) for i in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(one, range(4))) == alone


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """Its model begins a call and ends in the middle of it."""
    folder = tmp_path_factory.mktemp("models")
    write_scripted_model(folder / "broken", ["<tool_call>", '\n{"name": "I am', " glad"])
    with RunningDaemon("--model-folders", folder) as running:
        yield running


@each_route
@pytest.mark.parametrize("stream", [False, True])
def test_a_broken_call_is_no_answer_to_a_schema(broken, route, stream):
    how = {"model": "broken", "think": False, "stream": stream, "tools": True}
    content, _, calls, reason = ask(broken, route, SUM, SCHEMAS[1], **how)
    if reason == "stop" and not calls:
        assert not content.startswith("<tool_call>"), "the call is the content"
        jsonschema.validate(json.loads(content), SCHEMAS[1])
