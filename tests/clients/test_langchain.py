"""langchain-openai (both of its APIs) and langchain-ollama."""

import pytest
from langchain_ollama import ChatOllama
from langchain_openai import ChatOpenAI

WEATHER = {
    "name": "get_weather",
    "description": "Get the weather for a place",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "description": "Name of the city"}},
        "required": ["city"],
    },
}


@pytest.fixture(params=["chat", "responses", "ollama"])
def model(daemon, request):
    if request.param == "ollama":
        return ChatOllama(model="mlxr-demo", base_url=daemon.url, temperature=0)
    return ChatOpenAI(
        model="mlxr-demo",
        base_url=daemon.url + "/v1",
        api_key="none",
        temperature=0,
        use_responses_api=request.param == "responses",
    )


def test_invoke_and_stream(model):
    whole = model.invoke("Who are you?")
    assert "mlxr-demo" in whole.text
    assert whole.usage_metadata["input_tokens"] == 14
    streamed = "".join(piece.text for piece in model.stream("Who are you?"))
    assert streamed == whole.text


def test_tools(model):
    with_tools = model.bind_tools([{"type": "function", "function": WEATHER}])
    answer = with_tools.invoke("weather in Accra")
    (call,) = answer.tool_calls
    assert (call["name"], call["args"]) == ("get_weather", {"city": "Accra"})


def test_structured_output(model):
    schema = {
        "title": "person",
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 12}},
        "required": ["name"],
        "additionalProperties": False,
    }
    structured = model.with_structured_output(schema, method="json_schema")
    assert list(structured.invoke("Who are you?")) == ["name"]
