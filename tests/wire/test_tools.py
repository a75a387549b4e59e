"""Tool calls and reasoning in all three APIs, with the demo model and the unmodified clients."""

import json

import anthropic
import openai
import pytest

MODEL = "mlxr-demo"
QUESTION = [{"role": "user", "content": "weather in Accra"}]
WEATHER = {
    "name": "get_weather",
    "description": "Get the weather for a place",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "description": "Name of the city"}},
        "required": ["city"],
    },
}
TOOLS = [{"type": "function", "function": WEATHER}]


def ask(client, **fields):
    body = {"model": MODEL, "messages": QUESTION, "tools": TOOLS, "temperature": 0}
    return client.chat.completions.create(**(body | fields))


def test_a_call_is_parsed(client):
    choice = ask(client).choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    (call,) = choice.message.tool_calls
    assert call.type == "function"
    assert call.id
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"city": "Accra"}


def test_a_streamed_call_comes_as_head_and_fragments(client):
    chunks = [c.choices[0] for c in ask(client, stream=True)]
    assert chunks[0].delta.role == "assistant"
    calls = [d for c in chunks for d in c.delta.tool_calls or []]
    assert {c.index for c in calls} == {0}
    head, *rest = calls
    assert (head.function.name, head.type, head.function.arguments) == (
        "get_weather",
        "function",
        "",
    )
    assert head.id
    assert all(c.id is None and c.function.name is None and c.function.arguments for c in rest)
    assert rest  # how many: tokens that come faster than they are sent are merged
    assert json.loads("".join(c.function.arguments for c in rest)) == {"city": "Accra"}
    assert chunks[-1].finish_reason == "tool_calls"
    assert chunks[-1].delta.model_dump(exclude_none=True) == {}
    assert not "".join(c.delta.content or "" for c in chunks).strip()


@pytest.mark.parametrize("limit", [8, 12, 16])
def test_a_cut_call_is_valid_json_and_ends_with_length(client, limit):
    choice = ask(client, max_tokens=limit).choices[0]
    assert choice.finish_reason == "length"
    for call in choice.message.tool_calls or []:
        assert isinstance(json.loads(call.function.arguments), dict)


def test_a_call_can_be_forced(client):
    chatter = [{"role": "user", "content": "Who are you?"}]
    named = {"type": "function", "function": {"name": "get_weather"}}
    for choice in ("required", named):
        answer = ask(client, messages=chatter, tool_choice=choice, max_tokens=60).choices[0]
        call = answer.message.tool_calls[0]
        assert isinstance(json.loads(call.function.arguments), dict)
        if choice == named:
            assert call.function.name == "get_weather"


def test_a_result_is_read(client):
    call = ask(client).choices[0].message
    messages = [
        *QUESTION,
        call.model_dump(exclude_none=True),
        {
            "role": "tool",
            "tool_call_id": call.tool_calls[0].id,
            "content": '{"city": "Accra", "temperature": -3, "condition": "rainy"}',
        },
    ]
    answer = ask(client, messages=messages).choices[0]
    assert answer.finish_reason == "stop"
    assert "rainy" in answer.message.content


def test_reasoning_is_split_out_and_taken_back(client):
    messages = [
        {"role": "system", "content": "Think first, then answer."},
        {"role": "user", "content": "What is 63 + 81 - 88?"},
    ]
    whole = client.chat.completions.create(model=MODEL, messages=messages, temperature=0)
    said = whole.choices[0].message
    assert "<think>" not in said.content
    assert said.reasoning_content
    assert said.reasoning == said.reasoning_content
    deltas = [
        c.choices[0].delta
        for c in client.chat.completions.create(
            model=MODEL, messages=messages, temperature=0, stream=True
        )
    ]
    assert "".join(getattr(d, "reasoning", None) or "" for d in deltas) == said.reasoning
    assert "".join(d.content or "" for d in deltas) == said.content
    back = [*messages, said.model_dump(exclude_none=True), {"role": "user", "content": "Thanks"}]
    assert client.chat.completions.create(model=MODEL, messages=back, max_tokens=3).choices


CITY = {"type": "string", "description": "Name of the city", "enum": ["Bergen", "Oslo"]}
DAYS = WEATHER | {
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"city": CITY, "days": {"type": "integer", "minimum": 2, "maximum": 5}},
        "required": ["city", "days"],
        "additionalProperties": False,
    },
}
STRICT = [{"type": "function", "function": DAYS}]


def fits(arguments):
    value = json.loads(arguments)
    return (
        set(value) == {"city", "days"}
        and value["city"] in ("Bergen", "Oslo")
        and 2 <= value["days"] <= 5
    )


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "choice", ["auto", "required", {"type": "function", "function": {"name": "get_weather"}}]
)
def test_strict_arguments_fit_the_schema(client, choice, stream):
    """The model was taught {"city": "Accra"} for this question: only the mask makes it differ."""
    answer = ask(client, tools=STRICT, tool_choice=choice, stream=stream)
    if stream:
        chunks = [c.choices[0] for c in answer]
        fragments = [c for chunk in chunks for c in chunk.delta.tool_calls or []]
        assert fits("".join(c.function.arguments for c in fragments))
        assert chunks[-1].finish_reason == "tool_calls"
    else:
        (call,) = answer.choices[0].message.tool_calls
        assert fits(call.function.arguments)
        assert answer.choices[0].finish_reason == "tool_calls"


def test_required_calls_one_of_several_tools(client):
    other = {"type": "function", "function": {"name": "get_time", "parameters": {"type": "object"}}}
    for seed in range(4):
        answer = ask(
            client, tools=[*TOOLS, other], tool_choice="required", temperature=1.5, seed=seed
        )
        (call,) = answer.choices[0].message.tool_calls
        assert call.function.name in ("get_weather", "get_time")
        assert isinstance(json.loads(call.function.arguments), dict)


def test_a_strict_schema_that_cannot_be_held_is_refused(client):
    odd = {
        **DAYS,
        "parameters": {"type": "object", "properties": {"a": {"type": "string", "format": "odd"}}},
    }
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, tools=[{"type": "function", "function": odd}])
    assert refused.value.body["param"] == "tools"
    assert "odd" in refused.value.body["message"]


def test_anthropic_strict_tools_are_held(daemon):
    tool = {"name": DAYS["name"], "strict": True, "input_schema": DAYS["parameters"]}
    tool["description"] = DAYS["description"]
    with anthropic.Anthropic(base_url=daemon.url, api_key="none", max_retries=0) as client:
        answer = client.messages.create(
            model=MODEL,
            max_tokens=64,
            messages=QUESTION,
            tools=[tool],
            extra_body={"temperature": 0},
        )
    (call,) = [block for block in answer.content if block.type == "tool_use"]
    assert fits(json.dumps(call.input))


TIME = {"name": "get_time", "description": "The time", "parameters": {"type": "object"}}
BOTH = [*TOOLS, {"type": "function", "function": TIME}]


def allowed(mode, *names):
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


def test_allowed_tools_are_the_only_ones(client):
    auto = ask(client, tools=BOTH, tool_choice=allowed("auto", "get_weather"))
    assert auto == ask(client) or auto.usage.prompt_tokens == ask(client).usage.prompt_tokens
    assert auto.choices[0].message.tool_calls[0].function.name == "get_weather"
    required = ask(client, tools=BOTH, tool_choice=allowed("required", "get_time"), max_tokens=60)
    assert required.choices[0].message.tool_calls[0].function.name == "get_time"
    none = ask(client, tools=BOTH, tool_choice=allowed("auto"), max_tokens=60)
    assert none.choices[0].message.tool_calls is None


@pytest.mark.parametrize(
    ("choice", "param"),
    [
        (allowed("always", "get_time"), "tool_choice.allowed_tools.mode"),
        (allowed("required", "get_moon"), "tool_choice"),
        (allowed("required"), "tool_choice"),
        ({"type": "allowed_tools"}, "tool_choice.allowed_tools"),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{"name": "f"}]}},
            "tool_choice.allowed_tools.tools[0]",
        ),
    ],
)
def test_wrong_allowed_tools_are_named(client, choice, param):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, tools=BOTH, tool_choice=choice)
    assert caught.value.param == param
