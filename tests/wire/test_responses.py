"""/v1/responses with the unmodified openai client: create, stream, tools, going on, forgetting."""

import json

import openai
import pytest
from running_daemon import RunningDaemon
from test_keys import mlx_key
from test_tools import WEATHER

MODEL = "mlxr-demo"
TOOL = {"type": "function", "strict": False, **WEATHER}
THINK = {"instructions": "Think first, then answer.", "input": "What is 63 + 81 - 88?"}


def ask(client, **fields):
    return client.responses.create(**({"model": MODEL, "temperature": 0} | fields))


def test_create(client):
    answer = ask(client, input="Who are you?", metadata={"a": "b"}, max_output_tokens=100)
    assert (answer.object, answer.status, answer.model) == ("response", "completed", MODEL)
    assert "mlxr-demo" in answer.output_text
    (message,) = answer.output
    assert (message.type, message.role, message.status) == ("message", "assistant", "completed")
    assert answer.usage.input_tokens == 14
    assert answer.usage.total_tokens == 14 + answer.usage.output_tokens
    assert answer.metadata == {"a": "b"}
    assert answer.temperature == 0
    assert (answer.error, answer.incomplete_details, answer.max_output_tokens) == (None, None, 100)


def test_it_says_what_the_chat_says(client):
    chat = client.chat.completions.create(
        model=MODEL,
        messages=[
            {"role": "system", "content": "You are an expert."},
            {"role": "user", "content": "Count from 3 to 9."},
        ],
        temperature=0,
    )
    answer = ask(client, instructions="You are an expert.", input="Count from 3 to 9.")
    assert answer.output_text == chat.choices[0].message.content
    assert answer.usage.input_tokens == chat.usage.prompt_tokens
    items = [
        {"role": "developer", "content": "You are an expert."},
        {"role": "user", "content": [{"type": "input_text", "text": "Count from 3 to 9."}]},
    ]
    assert ask(client, input=items).output_text == answer.output_text


def test_streamed_events(client):
    whole = ask(client, input="Who are you?")
    events = list(ask(client, input="Who are you?", stream=True))
    assert [e.sequence_number for e in events] == list(range(len(events)))
    kinds = [e.type.removeprefix("response.") for e in events]
    deltas = [e.delta for e in events if e.type == "response.output_text.delta"]
    assert kinds == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        *["output_text.delta"] * len(deltas),
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert "".join(deltas) == whole.output_text == events[-1].response.output_text
    assert events[-4].text == whole.output_text
    assert events[-1].response.usage == whole.usage
    assert {e.item_id for e in events if hasattr(e, "item_id")} == {events[2].item.id}
    assert events[0].response.id == events[-1].response.id


def test_the_clients_own_stream_helper(client):
    with client.responses.stream(model=MODEL, input="Who are you?", temperature=0) as stream:
        text = "".join(e.delta for e in stream if e.type == "response.output_text.delta")
        assert stream.get_final_response().output_text == text


def test_cut_answer_is_incomplete(client):
    answer = ask(client, input="Tell me a story.", max_output_tokens=3)
    assert answer.status == "incomplete"
    assert answer.incomplete_details.reason == "max_output_tokens"
    last = list(ask(client, input="Tell me a story.", max_output_tokens=3, stream=True))[-1]
    assert (last.type, last.response.status) == ("response.incomplete", "incomplete")


def test_tools_and_their_results(client):
    first = ask(client, input="weather in Accra", tools=[TOOL])
    (call,) = first.output
    assert (call.type, call.name) == ("function_call", "get_weather")
    assert json.loads(call.arguments) == {"city": "Accra"}
    result = {
        "type": "function_call_output",
        "call_id": call.call_id,
        "output": '{"city": "Accra", "temperature": -3, "condition": "rainy"}',
    }
    stored = ask(client, previous_response_id=first.id, input=[result], tools=[TOOL])
    assert "rainy" in stored.output_text
    sent = [{"role": "user", "content": "weather in Accra"}, call.model_dump(), result]
    assert ask(client, input=sent, tools=[TOOL]).output_text == stored.output_text


def test_streamed_call(client):
    events = list(ask(client, input="weather in Accra", tools=[TOOL], stream=True))
    deltas = [e.delta for e in events if e.type == "response.function_call_arguments.delta"]
    (done,) = [e for e in events if e.type == "response.function_call_arguments.done"]
    assert "".join(deltas) == done.arguments
    assert json.loads(done.arguments) == {"city": "Accra"}
    assert events[-1].response.output[0].arguments == done.arguments
    assert events[-2].item.call_id == events[2].item.call_id


def test_a_forced_call(client):
    choice = {"type": "function", "name": "get_weather"}
    answer = ask(
        client, input="Who are you?", tools=[TOOL], tool_choice=choice, max_output_tokens=60
    )
    assert answer.output[0].name == "get_weather"
    assert isinstance(json.loads(answer.output[0].arguments), dict)


def test_reasoning_is_an_item_of_its_own_and_may_come_back(client):
    answer = ask(client, **THINK)
    thought, message = answer.output
    assert (thought.type, message.type) == ("reasoning", "message")
    assert thought.content[0].text
    assert 0 < answer.usage.output_tokens_details.reasoning_tokens < answer.usage.output_tokens
    kinds = [e.type for e in ask(client, **THINK, stream=True)]
    assert kinds.index("response.reasoning_text.done") < kinds.index("response.output_text.delta")
    back = [i.model_dump(exclude_none=True) for i in answer.output]
    sent = [{"role": "user", "content": THINK["input"]}, *back, {"role": "user", "content": "Hi"}]
    assert ask(client, input=sent, max_output_tokens=4).output


def test_text_format(client):
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 10}},
        "required": ["name"],
        "additionalProperties": False,
    }
    form = {"format": {"type": "json_schema", "name": "n", "schema": schema, "strict": True}}
    answer = ask(client, input="Who are you?", text=form)
    assert list(json.loads(answer.output_text)) == ["name"]
    assert answer.text.format.name == "n"


def test_logprobs(client):
    wanted = ["message.output_text.logprobs"]
    answer = ask(client, input="Who are you?", include=wanted, top_logprobs=2, max_output_tokens=3)
    logprobs = answer.output[0].content[0].logprobs
    assert len(logprobs) == 3
    assert all(len(one.top_logprobs) == 2 and one.logprob <= 0 for one in logprobs)


def test_going_on_from_a_stored_response(client):
    first = ask(client, input="Who are you?")
    second = ask(client, previous_response_id=first.id, input="Count from 3 to 9.")
    whole = ask(
        client,
        input=[
            {"role": "user", "content": "Who are you?"},
            *[item.model_dump(exclude_none=True) for item in first.output],
            {"role": "user", "content": "Count from 3 to 9."},
        ],
    )
    assert second.previous_response_id == first.id
    assert second.usage.input_tokens == whole.usage.input_tokens > first.usage.input_tokens
    assert second.output_text == whole.output_text
    third = ask(client, previous_response_id=second.id, input="Thanks", max_output_tokens=2)
    assert third.usage.input_tokens > second.usage.input_tokens


def test_a_stored_response_can_be_read_and_deleted(client):
    created = ask(client, input="Who are you?")
    assert client.responses.retrieve(created.id).model_dump() == created.model_dump()
    (item,) = client.responses.input_items.list(created.id).data
    assert item.content[0].text == "Who are you?"
    client.responses.delete(created.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(created.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.delete(created.id)
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, previous_response_id=created.id, input="Hi")
    assert caught.value.code == "previous_response_not_found"


def test_store_false_is_honoured(client):
    created = ask(client, input="Who are you?", store=False, max_output_tokens=2)
    assert created.store is False
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(created.id)


@pytest.mark.parametrize(
    ("field", "value", "blamed"),
    [
        ("tools", [{"type": "web_search"}], "tools[0].type"),
        ("background", True, "background"),
        ("conversation", "conv_1", "conversation"),
        ("truncation", "often", "truncation"),
        ("temperature", 9, "temperature"),
        ("input", "word " * 5000, "input"),
    ],
)
def test_what_is_not_served_is_refused_by_name(client, field, value, blamed):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, **({"input": "Hi"} | {field: value}))
    assert caught.value.param == blamed


def test_a_keys_responses_are_its_own_and_the_store_is_bounded():
    limits = ("--require-api-key", "true", "--response-store-bytes", "6KiB")
    with RunningDaemon(*limits) as daemon:
        clients = [
            openai.OpenAI(base_url=daemon.url + "/v1", api_key=mlx_key(daemon.home, "create", name))
            for name in ("one", "two")
        ]
        created = ask(clients[0], input="Who are you?", max_output_tokens=2)
        assert clients[0].responses.retrieve(created.id).id == created.id
        with pytest.raises(openai.NotFoundError):
            clients[1].responses.retrieve(created.id)
        with pytest.raises(openai.BadRequestError):
            ask(clients[1], previous_response_id=created.id, input="Hi")
        with pytest.raises(openai.NotFoundError):
            clients[1].responses.delete(created.id)
        for _ in range(4):
            ask(clients[1], input="Who are you?", max_output_tokens=2)
        with pytest.raises(openai.NotFoundError):
            clients[0].responses.retrieve(created.id)


def test_input_items_come_in_pages(client):
    said = [{"role": "user", "content": f"number {i}"} for i in range(25)]
    created = ask(client, input=said, max_output_tokens=1)

    def texts(**query):
        page = client.responses.input_items.list(created.id, **query)
        return [item.content[0].text for item in page.data], page

    newest = [f"number {i}" for i in reversed(range(25))]
    first, page = texts()
    assert first == newest[:20]
    assert page.has_more is True
    assert (page.first_id, page.last_id) == (page.data[0].id, page.data[-1].id)
    rest, page = texts(after=page.last_id)
    assert rest == newest[20:]
    assert page.has_more is False
    oldest, _ = texts(order="asc", limit=3)
    assert oldest == ["number 0", "number 1", "number 2"]
    everything = [i.content[0].text for i in client.responses.input_items.list(created.id, limit=4)]
    assert everything == newest
    assert len(texts(limit=100)[0]) == 25


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=ten", "limit=", "order=up", "after=msg_none"]
)
def test_wrong_pages_are_named(client, http, query):
    created = ask(client, input="Hi", max_output_tokens=1)
    answer = http.get(f"/v1/responses/{created.id}/input_items?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == query.partition("=")[0]


@pytest.mark.parametrize("before", [False, True])
def test_a_result_without_its_call_is_refused(client, before):
    call = {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"}
    items = [{"role": "user", "content": "Hi"}, *([call] if before else [])]
    wanted = "call_2" if before else "call_1"
    items.append({"type": "function_call_output", "call_id": wanted, "output": "1"})
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, input=items)
    message = f"No tool call found for function call output with call_id {wanted}."
    assert message in str(caught.value)
    assert caught.value.param == "input"


def test_input_tokens_are_counted(client, http):
    body = {"input": "Who are you?", "instructions": "Be brief."}
    counted = http.post("/v1/responses/input_tokens", json=body | {"model": MODEL})
    created = ask(client, max_output_tokens=1, **body)
    assert counted.json() == {
        "object": "response.input_tokens",
        "input_tokens": created.usage.input_tokens,
    }
    assert http.post("/v1/responses/input_tokens", json={}).status_code == 400
