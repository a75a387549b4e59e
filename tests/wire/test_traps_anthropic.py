"""Streams of /v1/messages event by event, as its clients read them, and what goes wrong in them."""

import json
import time

import anthropic
import jsonschema
import pytest
from running_daemon import events_of
from test_anthropic_client import THINK, TOOL, WHO
from test_constraints import PERSON
from test_disconnect import send

MODEL = "mlxr-demo"
PATH = "/v1/messages"
CLOCK = {"name": "get_time", "input_schema": {"type": "object"}}
# This API has no way to ignore the model's end: a schema does that.
UNENDING = {"type": "array", "items": {"enum": [1, 2]}, "minItems": 1_000_000}
ENDLESS = {
    "model": MODEL,
    "max_tokens": 1_000_000,
    "messages": WHO,
    "context_shift": True,
    "output_format": {"type": "json_schema", "schema": UNENDING},
    "stream": True,
}


@pytest.fixture
def sdk(daemon):
    with anthropic.Anthropic(base_url=daemon.url, api_key="none", max_retries=0) as running:
        yield running


def body(**fields):
    return {"model": MODEL, "max_tokens": 200, "messages": WHO, "temperature": 0, **fields}


def read(answer):
    """The events of a stream, each of which is two lines that agree, and an empty one."""
    events = []
    lines = answer.iter_lines()
    for name in lines:
        data, end = next(lines), next(lines)
        assert name.startswith("event: ")
        assert data.startswith("data: {")
        assert end == ""
        events.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    return events


def stream(http, **fields):
    with http.stream("POST", PATH, json=body(stream=True, **fields)) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        return [event for event in read(answer) if event["type"] != "ping"]


def blocks_of(events):
    """The blocks, whose events come in order and one block after the other."""
    assert [e["type"] for e in events if e["type"].startswith("message")] == [
        "message_start",
        "message_delta",
        "message_stop",
    ]
    assert events[0]["type"] == "message_start"
    assert [e["type"] for e in events[-2:]] == ["message_delta", "message_stop"]
    blocks, is_open = [], False
    for event in events[1:-2]:
        if event["type"] == "content_block_start":
            assert not is_open
            is_open = True
            blocks.append({"start": event["content_block"], "deltas": []})
        elif event["type"] == "content_block_stop":
            assert is_open
            is_open = False
        else:
            assert event["type"] == "content_block_delta"
            assert is_open
            blocks[-1]["deltas"].append(event["delta"])
        assert event["index"] == len(blocks) - 1
    assert not is_open
    return blocks


def joined(block, kind, field):
    return "".join(delta[field] for delta in block["deltas"] if delta["type"] == kind)


def whole(http, **fields):
    answer = http.post(PATH, json=body(**fields))
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_order_of_a_text(http):
    events = stream(http)
    message = events[0]["message"]
    assert message["id"].startswith("msg_")
    assert (message["content"], message["stop_reason"]) == ([], None)
    (block,) = blocks_of(events)
    assert block["start"] == {"type": "text", "text": ""}
    assert {delta["type"] for delta in block["deltas"]} == {"text_delta"}
    said = whole(http)
    assert joined(block, "text_delta", "text") == said["content"][0]["text"]
    assert events[-2]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert events[-2]["usage"]["output_tokens"] == said["usage"]["output_tokens"]


@pytest.mark.parametrize(
    ("choice", "name"),
    [({"type": "any"}, "get_weather"), ({"type": "tool", "name": "get_time"}, "get_time")],
)
def test_order_of_a_forced_call(http, choice, name):
    question = [{"role": "user", "content": "weather in Accra"}]
    fields = {"messages": question, "tools": [TOOL, CLOCK], "tool_choice": choice}
    events = stream(http, **fields)
    assert events[-2]["delta"]["stop_reason"] == "tool_use"
    (block,) = blocks_of(events)
    start = block["start"]
    assert start["id"].startswith("toolu_")
    assert start == {"type": "tool_use", "id": start["id"], "name": name, "input": {}}
    assert {delta["type"] for delta in block["deltas"]} == {"input_json_delta"}
    said = whole(http, **fields)
    assert said["stop_reason"] == "tool_use"
    (call,) = said["content"]
    assert call["name"] == name
    assert json.loads(joined(block, "input_json_delta", "partial_json")) == call["input"]


@pytest.mark.parametrize(
    "thinking", [{"type": "adaptive"}, {"type": "enabled", "budget_tokens": 1024}]
)
def test_thinking_is_streamed_and_signed_before_the_text(http, thinking):
    fields = THINK | {"thinking": thinking}
    thought, text = blocks_of(stream(http, **fields))
    assert thought["start"] == {"type": "thinking", "thinking": "", "signature": ""}
    *deltas, last = [delta["type"] for delta in thought["deltas"]]
    assert set(deltas) == {"thinking_delta"}
    assert last == "signature_delta"
    assert text["start"] == {"type": "text", "text": ""}
    assert {delta["type"] for delta in text["deltas"]} == {"text_delta"}
    said = whole(http, **fields)["content"]
    assert [block["type"] for block in said] == ["thinking", "text"]
    assert joined(thought, "thinking_delta", "thinking") == said[0]["thinking"] != ""
    assert joined(text, "text_delta", "text") == said[1]["text"] != ""


@pytest.mark.parametrize("fields", [{}, {"thinking": None}, {"thinking": {"type": "disabled"}}])
def test_no_thinking_is_streamed_where_nobody_asks_for_it(http, fields):
    (block,) = blocks_of(stream(http, **fields, **THINK))
    assert block["start"]["type"] == "text"
    assert {delta["type"] for delta in block["deltas"]} == {"text_delta"}
    assert "<think>" not in joined(block, "text_delta", "text")


@pytest.mark.parametrize("place", ["output_config", "output_format"])
def test_an_answer_in_a_format_fits_its_schema(http, place):
    form = {"type": "json_schema", "schema": PERSON}
    fields = {place: {"format": form} if place == "output_config" else form}
    for temperature in (0, 1):
        said = whole(http, max_tokens=300, temperature=temperature, **fields)
        assert said["stop_reason"] == "end_turn"
        (block,) = said["content"]
        jsonschema.validate(json.loads(block["text"]), PERSON)
    (block,) = blocks_of(stream(http, max_tokens=300, **fields))
    jsonschema.validate(json.loads(joined(block, "text_delta", "text")), PERSON)


@pytest.mark.parametrize("path", [PATH, PATH + "/count_tokens"])
@pytest.mark.parametrize("streamed", [False, True])
def test_an_unknown_model_is_404_and_names_the_nearest(http, path, streamed):
    answer = http.post(path, json=body(model="mlxr-dem", stream=streamed))
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/json"
    said = answer.json()
    assert (said["type"], said["error"]["type"]) == ("error", "not_found_error")
    assert '"mlxr-dem"; did you mean "mlxr-demo"?' in said["error"]["message"]


def test_a_deadline_in_the_middle_is_an_error_event(http, daemon):
    with http.stream("POST", PATH, json=ENDLESS | {"timeout": 0.3}) as answer:
        assert answer.status_code == 200
        events = read(answer)
    assert events[0]["type"] == "message_start"
    assert events[-1]["type"] == "error"
    assert events[-1]["error"]["type"] == "timeout_error"
    assert events[-1]["error"]["message"]
    assert not [e for e in events if e["type"] in ("message_delta", "message_stop")]
    daemon.wait_until_quiet()


def test_shutting_down_in_the_middle_is_an_error_event(start):
    daemon = start("--threads", "1", "--shutdown-timeout-s", "0")
    with daemon.client() as client, client.stream("POST", PATH, json=ENDLESS) as answer:
        events = events_of(answer)
        seen = [next(events)]
        daemon.process.terminate()
        seen += events
    assert seen[0]["type"] == "message_start"
    assert seen[-1]["type"] == "error"
    assert seen[-1]["error"]["message"]
    assert daemon.process.wait(20) == 0


def test_a_stream_that_waits_is_pinged(start):
    """While another request holds the only place."""
    daemon = start("--threads", "1", "--max-sequences", "1")
    blocker = send(daemon, ENDLESS, PATH)
    daemon.wait_until_running()
    with daemon.client() as client:
        began = time.monotonic()
        with client.stream("POST", PATH, json=body(stream=True)) as answer:
            lines = []
            for line in answer.iter_lines():
                lines.append(line)
                if line.startswith("data: ") and "ping" in line:
                    break
    assert 2.5 < time.monotonic() - began < 5
    assert lines[-2] == "event: ping"
    assert json.loads(lines[-1].removeprefix("data: ")) == {"type": "ping"}
    assert [line for line in lines if line.startswith("event: ")] == [
        "event: message_start",
        "event: ping",
    ]
    blocker.close()
    daemon.wait_until_quiet()


def test_a_request_has_an_id(http, sdk):
    answer = http.post(PATH, json=body(max_tokens=1))
    assert answer.headers["request-id"].startswith("req_")
    assert answer.headers["request-id"] == answer.headers["x-request-id"]
    counted = http.post(PATH + "/count_tokens", json=body())
    assert counted.headers["request-id"] != answer.headers["request-id"]
    with http.stream("POST", PATH, json=body(stream=True)) as streamed:
        assert streamed.headers["request-id"].startswith("req_")
    told = sdk.messages.with_raw_response.create(model=MODEL, max_tokens=1, messages=WHO)
    assert told.request_id == told.headers["request-id"]


def test_an_error_names_its_request(http, sdk):
    answer = http.post(PATH, json=body(max_tokens=0))
    assert answer.status_code == 400
    assert answer.json()["request_id"] == answer.headers["request-id"]
    with pytest.raises(anthropic.NotFoundError) as caught:
        sdk.messages.create(model="nothing", max_tokens=1, messages=WHO)
    assert caught.value.request_id
    assert caught.value.body["request_id"] == caught.value.request_id


def test_an_error_in_a_stream_names_its_request(http):
    with http.stream("POST", PATH, json=ENDLESS | {"timeout": 0.3}) as answer:
        events = read(answer)
    assert events[-1]["request_id"] == answer.headers["request-id"]
