"""Constrained answers: JSON schemas, regular expressions, grammars; hot or greedy, streamed or
whole, alone or in a batch."""

import json
import re
from concurrent.futures import ThreadPoolExecutor

import jsonschema
import pytest
from running_daemon import chat_body, events_of

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "likes": {
            "type": "array",
            "items": {"enum": ["tea", "rain", "chess"]},
            "minItems": 1,
            "maxItems": 3,
        },
    },
    "required": ["name", "age", "likes"],
    "additionalProperties": False,
}
NESTED = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "value": {"type": "number", "minimum": -10, "maximum": 10},
                "next": {"anyOf": [{"$ref": "#/$defs/leaf"}, {"type": "null"}]},
            },
            "required": ["value", "next"],
            "additionalProperties": False,
        },
        "leaf": {"type": "array", "items": {"type": "boolean"}, "maxItems": 4},
    },
    "$ref": "#/$defs/node",
}
ANSWER = {"enum": ["yes", "no", 42, None]}
SCHEMAS = [PERSON, NESTED, ANSWER]


def schema_format(schema, strict=True):
    named = {"name": "answer", "schema": schema, "strict": strict}
    return {"type": "json_schema", "json_schema": named}


def body(text="Describe Ada.", **fields):
    return chat_body(text, max_tokens=300) | fields


def ask(http, **fields):
    answer = http.post("/v1/chat/completions", json=body(**fields))
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]


def streamed(http, **fields):
    text, reason = "", None
    with http.stream(
        "POST", "/v1/chat/completions", json=body(**fields) | {"stream": True}
    ) as answer:
        for event in events_of(answer):
            if event != "[DONE]":
                choice = event["choices"][0]
                text += choice["delta"].get("content") or ""
                reason = choice["finish_reason"] or reason
    return text, reason


@pytest.mark.parametrize("schema", SCHEMAS, ids=["person", "nested", "enum"])
@pytest.mark.parametrize("temperature", [0, 1.5])
def test_answers_fit_the_schema(http, schema, temperature):
    for seed in range(1 if temperature == 0 else 6):
        fields = {"response_format": schema_format(schema), "temperature": temperature}
        choice = ask(http, seed=seed, top_k=0, top_p=1, min_p=0, **fields)
        assert choice["finish_reason"] == "stop"
        jsonschema.validate(json.loads(choice["message"]["content"]), schema)
        text, reason = streamed(http, seed=seed, top_k=0, top_p=1, min_p=0, **fields)
        assert (text, reason) == (choice["message"]["content"], "stop")


def test_the_end_needs_no_stop_token(http):
    choice = ask(http, response_format=schema_format(PERSON), ignore_eos=True)
    assert choice["finish_reason"] == "stop"
    jsonschema.validate(json.loads(choice["message"]["content"]), PERSON)


def test_json_object(http):
    choice = ask(http, response_format={"type": "json_object"}, temperature=1.5, seed=3)
    text = choice["message"]["content"]
    assert text.startswith("{")
    if choice["finish_reason"] == "stop":
        assert isinstance(json.loads(text), dict)


def test_openai_client_parses_a_schema(client):
    answer = client.chat.completions.create(
        model="mlxr-demo",
        messages=[{"role": "user", "content": "Describe Ada."}],
        response_format=schema_format(PERSON),
        temperature=1.5,
        seed=1,
    )
    jsonschema.validate(json.loads(answer.choices[0].message.content), PERSON)


@pytest.mark.parametrize(
    ("fields", "pattern"),
    [
        ({"guided_regex": r"[A-Z][a-z]{2,9}, \d{4}"}, r"[A-Z][a-z]{2,9}, \d{4}"),
        ({"regex": "(ab|cd){3}"}, "(ab|cd){3}"),
        ({"guided_choice": ["left", 'the "right" one']}, 'left|the "right" one'),
        ({"grammar": 'root ::= "a" item{2,3}\nitem ::= "-" [0-9]+ "."'}, r"a(-[0-9]+\.){2,3}"),
        ({"grammar": 'start: "x" NUMBER\nNUMBER: /[0-9]{3}/'}, "x[0-9]{3}"),
        ({"structured_outputs": {"choice": ["one", "two"]}}, "one|two"),
        ({"json_schema": {"const": 7}}, "7"),
        ({"guided_json": json.dumps({"const": "a"})}, '"a"'),
    ],
)
def test_other_names_and_notations(http, fields, pattern):
    for seed in range(3):
        choice = ask(http, temperature=1.5, seed=seed, **fields)
        assert re.fullmatch(pattern, choice["message"]["content"]), choice
        assert choice["finish_reason"] == "stop"


def test_text_completions_are_constrained_too(http):
    ask_for = {"prompt": "The answer is", "guided_regex": " (yes|no)!", "temperature": 1.5}
    answer = http.post("/v1/completions", json=ask_for | {"seed": 5, "max_tokens": 20})
    assert answer.json()["choices"][0]["text"].strip() in ("yes!", "no!")


def test_n_choices_are_constrained_apart(http):
    fields = body(response_format=schema_format(PERSON), temperature=1.5, seed=7) | {"n": 4}
    answer = http.post("/v1/chat/completions", json=fields)
    texts = [c["message"]["content"] for c in answer.json()["choices"]]
    assert len(set(texts)) > 1
    for text in texts:
        jsonschema.validate(json.loads(text), PERSON)


def test_a_batch_mixes_constrained_and_free_answers(daemon):
    """A request's mask touches no other request: each gets the text that it gets alone."""
    free = {"temperature": 1, "max_tokens": 60}
    asks = [
        body("Tell me about foxes.", seed=1, **free),
        body(seed=2, temperature=1.5, response_format=schema_format(PERSON)),
        body("Tell me about tea.", seed=3, **free),
        body(seed=4, temperature=1.5, response_format=schema_format(NESTED)),
        body(seed=5, temperature=1.5, guided_regex="(ab|cd){9}"),
        body(seed=2, temperature=1.5, response_format=schema_format(PERSON)),
    ]

    def text_of(fields):
        with daemon.client() as http:
            answer = http.post("/v1/chat/completions", json=fields).json()
        return answer["choices"][0]["message"]["content"]

    alone = [text_of(fields) for fields in asks]
    with ThreadPoolExecutor(len(asks)) as pool:
        assert list(pool.map(text_of, asks)) == alone
    assert alone[1] == alone[5]
    jsonschema.validate(json.loads(alone[1]), PERSON)
    jsonschema.validate(json.loads(alone[3]), NESTED)


def test_length_wins_over_an_unfinished_answer(http):
    choice = ask(http, response_format=schema_format(PERSON), max_tokens=5)
    assert choice["finish_reason"] == "length"
    assert choice["message"]["content"].startswith("{")


def test_logprobs_stay_the_models_own(http):
    choice = ask(http, guided_regex="zq", logprobs=True, top_logprobs=2)
    entries = choice["logprobs"]["content"]
    assert "".join(e["token"] for e in entries) == "zq"
    for entry in entries:
        assert entry["logprob"] <= entry["top_logprobs"][0]["logprob"]


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"response_format": {"type": "xml"}}, "response_format.type", "xml"),
        (
            {"response_format": {"type": "json_schema"}},
            "response_format.json_schema.schema",
            "missing",
        ),
        (
            {"response_format": schema_format({"type": "strin"})},
            "response_format.json_schema.schema",
            "strin",
        ),
        (
            {"response_format": schema_format({"type": "array", "uniqueItems": True})},
            "response_format.json_schema.schema",
            "uniqueItems",
        ),
        ({"guided_regex": "a("}, "guided_regex", "regex"),
        ({"grammar": "root ::= nothing"}, "grammar", "nothing"),
        ({"guided_choice": []}, "guided_choice", "at least one"),
        ({"structured_outputs": {"regex": 7}}, "structured_outputs.regex", "string"),
        ({"guided_regex": "a", "grammar": 'root ::= "a"'}, "guided_regex", "both"),
    ],
)
def test_what_is_wrong_is_a_400_that_names_the_field(http, fields, param, words):
    answer = http.post("/v1/chat/completions", json=body(**fields))
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["param"] == param
    assert words in error["message"]
    assert "\n" not in error["message"]


def test_keywords_that_cannot_be_enforced_are_ignored_unless_strict(http):
    schema = {"type": "array", "items": {"enum": [1, 2]}, "maxItems": 2, "uniqueItems": True}
    choice = ask(http, response_format=schema_format(schema, strict=False))
    assert isinstance(json.loads(choice["message"]["content"]), list)
