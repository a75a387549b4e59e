"""Tool calls and reasoning in all three APIs, with the demo model and the unmodified clients."""

import json

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
