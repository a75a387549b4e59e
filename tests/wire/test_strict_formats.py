"""Strict tools in every format of calls that a template can teach.

A format is chosen by a mark in the template. Scripted models begin a call by themselves and would
go on with one that does not fit; mlxr-demo, made to use another format, is forced to call.
"""

import json

import pytest
from running_daemon import MODELS, RunningDaemon
from scripted_model import write_scripted_model

PARAMETERS = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "description": "Name of the city", "enum": ["Bergen", "Oslo"]},
        "days": {"type": "integer", "minimum": 2, "maximum": 5},
    },
    "required": ["city", "days"],
    "additionalProperties": False,
}
TOOL = {
    "name": "get_weather",
    "description": "Get the weather for a place",
    "parameters": PARAMETERS,
}
TOOLS = [{"type": "function", "function": TOOL | {"strict": True}}]
QUESTION = [{"role": "user", "content": "weather in Accra"}]

BAD = '{"city": "Accra"}'
CALL, SEP = "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>"
HARMONY = ["<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|call|>", "<|return|>"]
COMMAND = ["<|START_ACTION|>", '[{"tool_call_id": "0", "tool_name": "get_weather"']
GEMMA = ["<start_function_call>", "call:get_weather{", "city:Accra}", "<end_function_call>"]

# What the model says of itself, and which texts are control tokens. What is in the way of a call
# that fits is masked.
SCRIPTS = {
    "mistral": (["Well. ", "[TOOL_CALLS]", '[{"name": "get_weather",', f'"arguments":{BAD}'], 1),
    "mistral-named": (["[TOOL_CALLS]", "get_weather", "[ARGS]", BAD], 2),
    "llama": (['{"name":', ' "get_weather", "parameters": ', BAD, "}"], 0),
    "llama-marked": (["<|python_tag|>", '{"name": "get_weather"', BAD], 1),
    "pythonic": (["[get_weather(", 'city="Accra")]'], 0),
    "gemma": (GEMMA, 1),
    "gemma-code": (["So: ", "```tool_", "code\n", "get_weather(", 'city="Accra")\n```'], 0),
    "deepseek": ([CALL, "function", SEP, "get_weather", "\n```json\n", BAD], 1),
    "command-r": ([*COMMAND, f', "parameters": {BAD}', "<|END_ACTION|>"], 1),
    "harmony": (["<|channel|>", "commentary to=functions.", "get_weather", "<|message|>", BAD], 1),
    "functools": (["Right. ", "func", 'tools[{"name": "get_weather"', BAD], 0),
    "qwen": (["<tool_call>", "\n<function=", "get_weather", ">\n", "</function>"], 0),
    "glm": (["<tool_call>", "get_weather", "\n</tool_call>"], 0),
}
MARKS = {
    "mistral": "[TOOL_CALLS]",
    "mistral-named": "[TOOL_CALLS][ARGS]",
    "llama": "<|python_tag|>",
    "llama-marked": "<|python_tag|>",
    "pythonic": "<|python_start|>",
    "gemma": "<start_function_call>",
    "gemma-code": "tool_code",
    "deepseek": "<｜tool▁calls▁begin｜>",
    "command-r": "<|START_ACTION|>",
    "command-r-plus": "Action: ```json",
    "harmony": "<|channel|>",
    "functools": "functools[",
    "qwen": "<function=",
    "glm": "<arg_key>",
    "phi": "<|/tool_call|>",
    "granite": "<|tool_call|>",
    "gemma-4": "<|tool_call>",
}


def teach(name, template):
    """Marks of other formats that would come first are taken away."""
    if MARKS[name] in ("<|python_tag|>", "<|python_start|>", "tool_code"):
        template = template.replace("tool_call>", "a_call>")
    return "{#- " + MARKS[name] + " -#}" + template


@pytest.fixture(scope="module")
def formats(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for name, (pieces, with_control) in SCRIPTS.items():
        control = [p for p in pieces if p[0] in "<[" and p[-1] in ">]" and len(p) > 2]
        control = [p for p in control if p not in ("<tool_call>", "\n</tool_call>")]
        control += HARMONY if name == "harmony" else []
        write_scripted_model(
            folder / name, pieces, control * bool(with_control), lambda t, name=name: teach(name, t)
        )
    with RunningDaemon("--model-folders", folder) as running:
        yield running
        assert running.process.poll() is None, running.text()


def ask(daemon, model, **fields):
    body = {"model": model, "messages": QUESTION, "tools": TOOLS, "temperature": 0}
    with daemon.client() as client:
        answer = client.post("/v1/chat/completions", json=body | {"max_tokens": 400} | fields)
    assert answer.status_code == 200, answer.text
    if not fields.get("stream"):
        choice = answer.json()["choices"][0]
        calls = [c["function"] for c in choice["message"].get("tool_calls") or []]
        return calls, choice["message"].get("content") or "", choice["finish_reason"]
    lines = [line[6:] for line in answer.text.splitlines() if line.startswith("data: {")]
    choices = [c for line in lines for c in json.loads(line)["choices"]]
    calls, content = [], ""
    for choice in choices:
        content += choice["delta"].get("content") or ""
        for piece in choice["delta"].get("tool_calls") or []:
            if "name" in piece["function"]:
                calls.append({"name": piece["function"]["name"], "arguments": ""})
            calls[-1]["arguments"] += piece["function"].get("arguments") or ""
    return calls, content, choices[-1]["finish_reason"]


def assert_fits(call):
    assert call["name"] == "get_weather"
    arguments = json.loads(call["arguments"])
    assert set(arguments) == {"city", "days"}, call
    assert arguments["city"] in ("Bergen", "Oslo")
    assert arguments["days"] in range(2, 6)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_call_that_the_model_begins_fits(formats, name, stream):
    calls, content, reason = ask(formats, name, stream=stream)
    # A script that was left says the first token that may come: in a list, one more call.
    whole = calls[:-1] if reason == "length" else calls
    assert whole, content
    for call in whole:
        assert_fits(call)
    assert reason in ("tool_calls", "length")
    says = SCRIPTS[name][0][0]
    assert content.strip() == (says.strip() if says.endswith(" ") else "")


@pytest.mark.parametrize("name", SCRIPTS)
def test_without_strict_the_script_is_followed(formats, name):
    """Or the tests above would show nothing."""
    calls, _, _ = ask(formats, name, tools=[{"type": "function", "function": TOOL}])
    assert not any("days" in call["arguments"] for call in calls)


@pytest.fixture(scope="module")
def demos():
    config = json.loads((MODELS / "mlxr-demo/tokenizer_config.json").read_text())
    with RunningDaemon() as running:
        with running.client() as client:
            for name in MARKS:
                template = teach(name, config["chat_template"])
                body = {"model": name, "from": "mlxr-demo", "template": template, "stream": False}
                assert client.post("/api/create", json=body).json() == {"status": "success"}
        yield running
        assert running.process.poll() is None, running.text()


@pytest.mark.parametrize("name", [name for name in MARKS if name != "harmony"])
@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "get_weather"}}]
)
def test_a_forced_call_fits(demos, name, choice):
    other = {"type": "function", "function": {"name": "get_time", "strict": True}}
    calls, content, _ = ask(
        demos,
        name,
        tool_choice=choice,
        parallel_tool_calls=False,
        tools=[*TOOLS, other] if choice != "required" else TOOLS,
    )
    assert len(calls) == 1, content
    assert_fits(calls[0])


@pytest.mark.parametrize("name", ["harmony", "deepseek", "gemma"])
def test_a_forced_call_fits_where_marks_are_control_tokens(formats, name):
    calls, content, _ = ask(formats, name, tool_choice="required", parallel_tool_calls=False)
    assert len(calls) == 1, content
    assert_fits(calls[0])


@pytest.mark.parametrize("name", ["qwen", "glm"])
def test_the_demo_calls_in_tags(demos, name):
    calls, _, reason = ask(demos, name)
    assert_fits(calls[0])
    assert reason == "tool_calls"


@pytest.mark.parametrize("name", ["mistral", "llama", "pythonic", "functools", "gemma-code"])
def test_an_answer_without_a_call_is_text(demos, name):
    plain = [{"role": "user", "content": "Who are you?"}]
    calls, content, _ = ask(demos, name, messages=plain, max_tokens=60)
    assert calls == []
    assert content.strip()


def test_a_schema_that_a_format_cannot_hold_is_refused(demos):
    odd = TOOL | {
        "strict": True,
        "parameters": {"type": "object", "properties": {"a": {"type": "string", "format": "odd"}}},
    }
    body = {"model": "qwen", "messages": QUESTION, "tools": [{"type": "function", "function": odd}]}
    with demos.client() as client:
        answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "tools"
    assert '"odd"' in answer.json()["error"]["message"]
