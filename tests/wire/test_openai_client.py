"""The unmodified openai client: chat and completions, streaming and not, one and many at a time."""

from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

MODEL = "mlxr-demo"
QUESTION = [{"role": "user", "content": "Who are you?"}]


def test_lists_models(client):
    models = client.models.list().data
    assert MODEL in [m.id for m in models]
    model = client.models.retrieve(MODEL)
    assert (model.object, model.owned_by) == ("model", "mlxr")
    assert model.context_length == 2048


def test_chat(client):
    answer = client.chat.completions.create(model=MODEL, messages=QUESTION, temperature=0)
    assert answer.object == "chat.completion"
    assert answer.model == MODEL
    choice = answer.choices[0]
    assert choice.message.role == "assistant"
    assert "mlxr-demo" in choice.message.content
    assert choice.finish_reason == "stop"
    assert answer.usage.prompt_tokens == 14
    assert answer.usage.total_tokens == 14 + answer.usage.completion_tokens
    assert answer.usage.prompt_tokens_details.cached_tokens >= 0


def test_streamed_chat_equals_the_whole_one(client):
    whole = client.chat.completions.create(model=MODEL, messages=QUESTION, temperature=0)
    chunks = list(
        client.chat.completions.create(
            model=MODEL,
            messages=QUESTION,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    reasons = [c.choices[0].finish_reason for c in chunks if c.choices]
    assert reasons[-1] == "stop"
    assert set(reasons[:-1]) == {None}
    assert chunks[-1].choices == []
    assert chunks[-1].usage.model_dump() == whole.usage.model_dump()
    assert all(c.usage is None for c in chunks[:-1])
    assert {c.id for c in chunks} == {chunks[0].id}


def test_stream_without_usage_has_choices_in_each_chunk(client):
    chunks = list(
        client.chat.completions.create(model=MODEL, messages=QUESTION, stream=True, max_tokens=4)
    )
    assert all(c.choices for c in chunks)
    assert chunks[-1].choices[0].finish_reason == "length"


def test_completion(client):
    answer = client.completions.create(
        model=MODEL, prompt="Once upon a time", temperature=0, max_tokens=12
    )
    assert answer.object == "text_completion"
    assert answer.choices[0].text
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 12
    streamed = client.completions.create(
        model=MODEL, prompt="Once upon a time", temperature=0, max_tokens=12, stream=True
    )
    assert "".join(c.choices[0].text for c in streamed if c.choices) == answer.choices[0].text


def test_completion_of_several_prompts_keeps_their_order(client):
    prompts = ["Once upon a time", "def add(a, b):", "The capital of France is"]
    together = client.completions.create(model=MODEL, prompt=prompts, temperature=0, max_tokens=16)
    assert [c.index for c in together.choices] == [0, 1, 2]
    for prompt, choice in zip(prompts, together.choices, strict=True):
        alone = client.completions.create(model=MODEL, prompt=prompt, temperature=0, max_tokens=16)
        assert choice.text == alone.choices[0].text


def test_several_choices_are_distinct_and_repeatable(client):
    def ask():
        answer = client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "Tell me a story about a fox."}],
            n=3,
            seed=5,
            temperature=1,
            max_tokens=30,
        )
        return [c.message.content for c in answer.choices]

    first = ask()
    assert len(set(first)) > 1
    assert ask() == first


def test_system_developer_and_content_parts(client):
    def ask(role, content):
        answer = client.chat.completions.create(
            model=MODEL,
            messages=[
                {"role": role, "content": "You are an expert assistant."},
                {"role": "user", "content": content},
            ],
            temperature=0,
        )
        return answer.choices[0].message.content, answer.usage.prompt_tokens

    plain = ask("system", "Who are you?")
    assert ask("developer", "Who are you?") == plain
    parts = [{"type": "text", "text": "Who are"}, {"type": "text", "text": " you?"}]
    assert ask("system", parts) == plain


def test_tools_reach_the_template(client):
    tool = {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Get the weather for a place",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string", "description": "Name of the city"}},
                "required": ["city"],
            },
        },
    }
    answer = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "weather in Accra"}],
        tools=[tool],
        temperature=0,
    )
    (call,) = answer.choices[0].message.tool_calls
    assert call.function.name == "get_weather"
    assert "Accra" in call.function.arguments
    unaware = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "weather in Accra"}],
        tools=[tool],
        tool_choice="none",
        temperature=0,
    )
    assert unaware.usage.prompt_tokens < answer.usage.prompt_tokens


PROMPTS = [
    "Tell me a story about a fox and a lantern.",
    "What is 12 + 35?",
    "Sort these words: pear, apple, fig",
    "Write a Python function that adds two numbers.",
    "Who are you?",
    "Count from 3 to 9.",
    "Reverse the word lantern.",
    "What is the capital of France?",
]


@pytest.mark.parametrize("sampling", [{"temperature": 0}, {"temperature": 0.9, "seed": 11}])
def test_eight_at_a_time_equal_each_alone(daemon, client, sampling):
    def ask(prompt, stream):
        answer = client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": prompt}],
            max_tokens=80,
            stream=stream,
            **sampling,
        )
        if not stream:
            return answer.choices[0].message.content
        return "".join(c.choices[0].delta.content or "" for c in answer if c.choices)

    alone = [ask(prompt, False) for prompt in PROMPTS]
    for stream in (True, False):
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(lambda p: ask(p, stream), PROMPTS))  # noqa: B023
        assert together == alone


def test_eight_twins_get_the_same_answer(client):
    def ask(_):
        answer = client.completions.create(
            model=MODEL, prompt="Once upon a time", temperature=0, max_tokens=60
        )
        return answer.choices[0].text

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(ask, range(8)))) == 1


def test_unknown_model_is_the_clients_not_found_error(client):
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="mlxr-dem", messages=QUESTION)
    assert caught.value.code == "model_not_found"
    assert "mlxr-demo" in caught.value.message


def test_bad_request_is_the_clients_bad_request_error(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=MODEL, messages=QUESTION, temperature=9)
    assert caught.value.param == "temperature"


def test_async_client(daemon):
    import asyncio

    async def ask_all():
        async with openai.AsyncOpenAI(base_url=daemon.url + "/v1", api_key="none") as running:
            return await asyncio.gather(
                *[
                    running.chat.completions.create(model=MODEL, messages=QUESTION, temperature=0)
                    for _ in range(8)
                ]
            )

    answers = asyncio.run(ask_all())
    assert len({a.choices[0].message.content for a in answers}) == 1
