"""litellm, over the OpenAI API and over Ollama's."""

import json

import litellm
import pytest

WHO = [{"role": "user", "content": "Who are you?"}]
WEATHER = {
    "name": "get_weather",
    "description": "Get the weather for a place",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "description": "Name of the city"}},
        "required": ["city"],
    },
}


@pytest.fixture(params=["openai", "ollama_chat", "anthropic"])
def ask(daemon, request):
    base = {"openai": daemon.url + "/v1"}.get(request.param, daemon.url)

    def call(messages, **fields):
        return litellm.completion(
            model=f"{request.param}/mlxr-demo",
            messages=messages,
            api_base=base,
            api_key="none",
            temperature=0,
            max_tokens=100,
            **fields,
        )

    return call


def test_chat_and_stream(ask):
    whole = ask(WHO)
    assert "mlxr-demo" in whole.choices[0].message.content
    assert whole.usage.completion_tokens > 3
    pieces = [chunk.choices[0].delta.content or "" for chunk in ask(WHO, stream=True)]
    assert "".join(pieces) == whole.choices[0].message.content


def test_tools(ask):
    question = [{"role": "user", "content": "weather in Accra"}]
    answer = ask(question, tools=[{"type": "function", "function": WEATHER}]).choices[0]
    (call,) = answer.message.tool_calls
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"city": "Accra"}
    assert answer.finish_reason == "tool_calls"


def test_unknown_model(daemon):
    with pytest.raises(litellm.NotFoundError):
        litellm.completion(
            model="openai/mlxr-dem", messages=WHO, api_base=daemon.url + "/v1", api_key="none"
        )
