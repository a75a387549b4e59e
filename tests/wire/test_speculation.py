"""Speculation, on by default, changes nothing that a client can see but the time."""

import shutil
import tempfile
from pathlib import Path

import pytest
from other_vocabulary import write_with_other_vocabulary
from running_daemon import MODELS, chat_body, events_of

GOLDENS = MODELS.parent / "tests/goldens"
REPEATED = "The red fox ran over the hill. " * 4
STORIES = [f"Once upon a time, there was a little girl named {n}." for n in ("Lily", "Mia", "Ann")]
COLOURS = {
    "type": "object",
    "properties": {"colours": {"type": "array", "items": {"enum": ["red", "green", "blue"]}}},
    "required": ["colours"],
}


@pytest.fixture
def start_with(start):
    """Starts daemons that serve the demo model with these settings."""
    homes = []

    def start_one(settings):
        homes.append(Path(tempfile.mkdtemp(prefix="mlxr-wire-")))
        folder = homes[-1] / "configs" / "models"
        folder.mkdir(parents=True)
        (folder / "mlxr-demo.yaml").write_text(settings)
        return start("--model", MODELS / "mlxr-demo", home=homes[-1])

    yield start_one
    for home in homes:
        shutil.rmtree(home, ignore_errors=True)


def completion(http, **fields):
    answer = http.post("/v1/completions", json={"prompt": REPEATED, "max_tokens": 80, **fields})
    assert answer.status_code == 200, answer.text
    choice = answer.json()["choices"][0]
    return choice["text"], choice["finish_reason"], choice["logprobs"], answer.json()["usage"]


def chat(http, **fields):
    answer = http.post(
        "/v1/chat/completions", json=chat_body("Say it again: " + REPEATED, **fields)
    )
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["message"]["content"], answer.json()["usage"]


def streamed(http, **fields):
    body = {"prompt": REPEATED, "max_tokens": 80, "stream": True, **fields}
    with http.stream("POST", "/v1/completions", json=body) as answer:
        return "".join(e["choices"][0]["text"] for e in events_of(answer) if e != "[DONE]")


def everything(http):
    schema = {"type": "json_schema", "json_schema": {"name": "c", "schema": COLOURS}}
    return [
        completion(http, temperature=0, ignore_eos=True),
        completion(http, temperature=0, logprobs=2, ignore_eos=True),
        completion(http, temperature=1, seed=5),
        completion(http, temperature=1, seed=5, n=2),
        completion(http, temperature=0, stop=[" hill. The"]),
        completion(http, temperature=0, frequency_penalty=1, repetition_penalty=1.2),
        chat(http, max_tokens=60),
        chat(http, max_tokens=60, temperature=0.9, seed=3, response_format=schema),
        streamed(http, temperature=0, ignore_eos=True),
    ]


def tell_until_accepted(daemon, fast, slow):
    """What a model tries, and how often, depends on the time its steps take: a machine where no
    proposal pays sees one in hundreds of tokens."""
    for turn in range(60):
        if speculated(daemon)[1] > 0:
            return
        told = {"prompt": STORIES[turn % 3], "temperature": 0, "max_tokens": 40 + turn}
        assert completion(fast, **told) == completion(slow, **told)


def speculated(daemon):
    model = next(m for m in daemon.ps() if m["name"] == "mlxr-demo")
    return model["proposed_tokens"], model["accepted_tokens"]


@pytest.mark.parametrize("by", ["ngram", "draft", "other vocabulary", "finer vocabulary"])
def test_answers_are_the_same_with_and_without(start_with, tmp_path, by):
    draft = MODELS / "mlxr-demo-draft"
    if "vocabulary" in by:
        without = 20 if by.startswith("finer") else 0
        draft = write_with_other_vocabulary(draft, tmp_path / "draft", without)
    by_draft = f"speculation: draft\ndraft_model: {draft}\nspeculation_depth: 5\n"
    settings = "" if by == "ngram" else by_draft
    speculating, plain = start_with(settings), start_with("speculation: off\n")
    with speculating.client() as fast, plain.client() as slow:
        for got, expected in zip(everything(fast), everything(slow), strict=True):
            assert got == expected
        tell_until_accepted(speculating, fast, slow)
    proposed, accepted = speculated(speculating)
    assert proposed >= accepted > 0
    assert speculated(plain) == (0, 0)


def test_a_draft_that_cannot_be_had_is_an_error_that_says_so(start_with):
    for settings, said in {
        "speculation: draft\n": "draft_model",
        "speculation: draft\ndraft_model: mlxr-demo-daft\n": 'no model "mlxr-demo-daft"',
        f"speculation: draft\ndraft_model: {GOLDENS}/bert\n": "is an encoder and writes no text",
        f"speculation: draft\ndraft_model: {GOLDENS}/llama\n": "tokenizer",
    }.items():
        daemon = start_with(settings)
        with daemon.client() as client:
            answer = client.post("/v1/completions", json={"prompt": "a", "max_tokens": 1})
            assert answer.status_code >= 400
            assert said in answer.json()["error"]["message"]
