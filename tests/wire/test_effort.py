"""How hard a model thinks: the fields of every API reach the chat template, and thoughts are shown
to those who ask for them."""

import anthropic
import pytest
from running_daemon import RunningDaemon, chat_body
from thinking_model import NAME, SUM, make_thinking_model

# A template that says what it was told.
TOLD = "{{ enable_thinking }} {{ thinking }} {{ reasoning_effort }}|"
PARROT = "parrot"
CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
MESSAGE = {"max_tokens": 60, "messages": SUM[1:], "system": SUM[0]["content"], "temperature": 0}


@pytest.fixture(scope="module")
def own():
    with RunningDaemon() as running:
        with running.client() as client:
            make_thinking_model(client)
            body = {"model": PARROT, "from": "mlxr-demo", "template": TOLD, "stream": False}
            assert client.post("/api/create", json=body).status_code == 200
        yield running
        assert running.process.poll() is None, running.text()


@pytest.fixture
def http(own):
    with own.client() as client:
        yield client


def told(http, fields):
    """What the template saw."""
    asked = http.post("/tokenize", json=chat_body("Hi", model=PARROT) | fields)
    assert asked.status_code == 200, asked.text
    text = http.post("/detokenize", json={"tokens": asked.json()["tokens"], "model": PARROT})
    answered = http.post(CHAT, json=chat_body("Hi", model=PARROT, max_tokens=1) | fields)
    assert answered.json()["usage"]["prompt_tokens"] == len(asked.json()["tokens"])
    return text.json()["content"].removesuffix("|").strip()


@pytest.mark.parametrize(
    ("effort", "seen"),
    [
        (None, ""),
        ("none", "False False"),
        ("minimal", "True True low"),
        ("low", "True True low"),
        ("medium", "True True medium"),
        ("high", "True True high"),
        ("xhigh", "True True high"),
    ],
)
def test_reasoning_effort_reaches_the_template(http, effort, seen):
    assert told(http, {"reasoning_effort": effort}) == seen


def test_reasoning_effort_beside_variables(http):
    fields = {"reasoning_effort": "low", "chat_template_kwargs": {"enable_thinking": False}}
    assert told(http, fields) == "True True low"


@pytest.mark.parametrize("effort", ["max", "LOW", "", 3])
def test_an_unknown_effort_is_refused(http, effort):
    answer = http.post(CHAT, json=chat_body("Hi", reasoning_effort=effort))
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "reasoning_effort"


def test_effort_none_turns_thinking_off(http):
    body = {"model": NAME, "messages": SUM, "temperature": 0}
    thoughtful = http.post(CHAT, json=body).json()["choices"][0]["message"]
    assert thoughtful["reasoning_content"]
    brief = http.post(CHAT, json=body | {"reasoning_effort": "none"}).json()
    assert "reasoning_content" not in brief["choices"][0]["message"]
    assert brief["choices"][0]["message"]["content"]


@pytest.mark.parametrize(
    ("fields", "seen"),
    [
        ({}, "False False"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "True True"),
        ({"output_config": {"effort": "low"}}, "False False low"),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}, "True True high"),
        (
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "xhigh"}},
            "True True high",
        ),
        ({"output_config": {"effort": None}}, "False False"),
    ],
)
def test_anthropics_effort_reaches_the_template(http, fields, seen):
    body = {"model": PARROT, "messages": [{"role": "user", "content": "Hi"}]} | fields
    counted = http.post(MESSAGES + "/count_tokens", json=body)
    assert counted.status_code == 200, counted.text
    # As many tokens as the template writes where it is told the same.
    words = seen.split()
    asked = {"model": PARROT, "content": " ".join([*words, *[""] * (3 - len(words))]) + "|"}
    said = http.post("/tokenize", json=asked).json()["tokens"]
    assert counted.json()["input_tokens"] == len(said)


def test_anthropics_unknown_effort_is_refused(http):
    body = MESSAGE | {"model": NAME, "output_config": {"effort": "none"}}
    answer = http.post(MESSAGES, json=body)
    assert answer.status_code == 400
    assert "output_config.effort" in answer.json()["error"]["message"]


@pytest.mark.parametrize("model", ["mlxr-demo", NAME])
def test_thoughts_are_only_shown_to_those_who_ask(own, model):
    """mlxr-demo begins to think by itself, where its system prompt says so."""
    with anthropic.Anthropic(base_url=own.url, api_key="none", max_retries=0) as client:
        asked = {k: v for k, v in MESSAGE.items() if k != "temperature"}
        body = asked | {"model": model, "max_tokens": 300, "extra_body": {"temperature": 0}}
        plain = client.messages.create(**body)
        assert [block.type for block in plain.content] == ["text"]
        assert plain.content[0].text
        with client.messages.stream(**body) as stream:
            assert [block.type for block in stream.get_final_message().content] == ["text"]
        thinking = {"type": "enabled", "budget_tokens": 1024}
        shown = client.messages.create(**body, thinking=thinking)
        assert [block.type for block in shown.content] == ["thinking", "text"]
