"""The unmodified anthropic client: messages, streams event by event, tools, thinking, counting."""

import anthropic
import pytest
from running_daemon import events_of
from test_tools import WEATHER

MODEL = "mlxr-demo"
GREEDY = {"temperature": 0}  # the client has no argument for it any more
WHO = [{"role": "user", "content": "Who are you?"}]
TOOL = {
    "name": WEATHER["name"],
    "description": WEATHER["description"],
    "input_schema": WEATHER["parameters"],
}
WEATHER_QUESTION = [{"role": "user", "content": "weather in Accra"}]
THINK = {
    "system": "Think first, then answer.",
    "messages": [{"role": "user", "content": "What is 63 + 81 - 88?"}],
}


@pytest.fixture
def claude(daemon):
    with anthropic.Anthropic(base_url=daemon.url, api_key="none", max_retries=0) as running:
        yield running


def ask(claude, **fields):
    body = {"model": MODEL, "max_tokens": 200, "messages": WHO, "extra_body": GREEDY}
    return claude.messages.create(**(body | fields))


def test_message(claude):
    answer = ask(claude)
    assert (answer.type, answer.role, answer.stop_reason) == ("message", "assistant", "end_turn")
    assert "mlxr-demo" in answer.content[0].text
    used = answer.usage
    assert used.input_tokens + used.cache_read_input_tokens == 14
    assert ask(claude, max_tokens=2).stop_reason == "max_tokens"


def test_stop_sequence_is_named(claude):
    answer = ask(claude, stop_sequences=["zebra", "mlxr"])
    assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", "mlxr")
    assert "mlxr" not in answer.content[0].text


def test_stream_has_every_event_in_order(http):
    body = {"model": MODEL, "max_tokens": 200, "messages": WHO, "stream": True, "temperature": 0}
    with http.stream("POST", "/v1/messages", json=body) as answer:
        lines = list(answer.iter_lines())
    names = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    events = [e for e in events_of(type("Lines", (), {"iter_lines": lambda _: lines})())]
    assert names == [e["type"] for e in events]
    assert names[:2] == ["message_start", "content_block_start"]
    assert names[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert set(names[2:-3]) == {"content_block_delta"}
    assert events[0]["message"]["usage"]["input_tokens"] == 14
    assert events[-2]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert events[-2]["usage"]["output_tokens"] > 3


def test_streamed_message_equals_the_whole_one(claude):
    whole = ask(claude)
    with claude.messages.stream(
        model=MODEL, max_tokens=200, messages=WHO, extra_body=GREEDY
    ) as stream:
        streamed = stream.get_final_message()
    assert streamed.content[0].text == whole.content[0].text
    assert streamed.usage.output_tokens == whole.usage.output_tokens


def test_tools(claude):
    answer = ask(claude, messages=WEATHER_QUESTION, tools=[TOOL])
    (call,) = answer.content
    assert answer.stop_reason == "tool_use"
    assert (call.type, call.name, call.input) == ("tool_use", "get_weather", {"city": "Accra"})
    with claude.messages.stream(
        model=MODEL, max_tokens=200, messages=WEATHER_QUESTION, tools=[TOOL], extra_body=GREEDY
    ) as stream:
        streamed = stream.get_final_message()
    assert streamed.content[0].input == {"city": "Accra"}
    result = {
        "type": "tool_result",
        "tool_use_id": call.id,
        "content": '{"city": "Accra", "temperature": -3, "condition": "rainy"}',
    }
    turns = [
        *WEATHER_QUESTION,
        {"role": "assistant", "content": answer.content},
        {"role": "user", "content": [result]},
    ]
    said = ask(claude, messages=turns, tools=[TOOL])
    assert "rainy" in said.content[0].text


def test_a_call_can_be_forced(claude):
    choice = {"type": "tool", "name": "get_weather"}
    answer = ask(claude, tools=[TOOL], tool_choice=choice, max_tokens=60)
    assert answer.content[0].name == "get_weather"
    assert isinstance(answer.content[0].input, dict)


def test_thinking_is_a_block_of_its_own(claude):
    answer = ask(claude, thinking={"type": "adaptive"}, **THINK)
    assert [block.type for block in answer.content] == ["thinking", "text"]
    hidden = ask(claude, thinking={"type": "disabled"}, **THINK)
    assert [block.type for block in hidden.content] == ["text"]


def test_count_tokens_counts_system_and_tools(claude):
    def count(**fields):
        return claude.messages.count_tokens(model=MODEL, messages=WHO, **fields).input_tokens

    assert count() == 14
    assert count() < count(system="Be kind.") < count(system="Be kind.", tools=[TOOL])
    billing = [
        {"type": "text", "text": "x-anthropic-billing-header: cc_version=1; cch=abc;"},
        {"type": "text", "text": "Be kind."},
    ]
    assert count(system=billing) == count(system="Be kind.")


def test_claude_names_mean_the_default_model(claude):
    assert ask(claude, model="claude-haiku-4-5", max_tokens=2).model == MODEL


def test_errors_have_anthropics_shape(claude, http):
    with pytest.raises(anthropic.NotFoundError) as caught:
        ask(claude, model="mlxr-dem")
    assert caught.value.body["error"]["type"] == "not_found_error"
    with pytest.raises(anthropic.BadRequestError) as caught:
        ask(claude, messages=[{"role": "user", "content": "word " * 5000}])
    assert caught.value.body["error"]["type"] == "invalid_request_error"
    assert "2048" in caught.value.body["error"]["message"]
    answer = http.post("/v1/messages", content="not json")
    assert answer.status_code == 400
    assert answer.json()["type"] == "error"
