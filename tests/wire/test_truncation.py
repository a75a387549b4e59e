"""A conversation that is longer than the window: an error, unless somebody chose truncation."""

import ollama
import pytest
from grpc_client import GrpcClient
from running_daemon import MODELS

MODEL = "mlxr-demo"
HEADER = "x-mlxr-truncated-messages"
SYSTEM = {"role": "system", "content": "Answer with one word."}
QUESTION = {"role": "user", "content": "What is the capital of Norway?"}


def conversation(turns):
    messages = [SYSTEM]
    for i in range(turns):
        messages.append({"role": "user", "content": f"Tell me about the number {i}. " * 8})
        messages.append({"role": "assistant", "content": f"It is the number {i}. " * 8})
    return [*messages, QUESTION]


@pytest.fixture(scope="module")
def daemon():
    from running_daemon import RunningDaemon

    with RunningDaemon("--context-length", "512") as running:
        yield running


@pytest.fixture
def http(daemon):
    with daemon.client() as client:
        yield client


def chat(http, messages, **fields):
    body = {"messages": messages, "max_tokens": 12, "temperature": 0, **fields}
    return http.post("/v1/chat/completions", json=body)


def tokens_of(http, messages):
    return http.post("/tokenize", json={"messages": messages}).json()["count"]


def test_without_a_choice_it_is_an_error(http):
    for fields in ({}, {"truncation": "disabled"}):
        answer = chat(http, conversation(20), **fields)
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "context_length_exceeded"
        assert HEADER not in answer.headers
    assert chat(http, [QUESTION], truncation="sometimes").json()["error"]["param"] == "truncation"
    assert chat(http, [QUESTION], truncation="auto").headers.get(HEADER) is None


@pytest.mark.parametrize("stream", [False, True])
def test_auto_drops_the_oldest_turns_and_says_so(daemon, http, stream):
    messages = conversation(20)
    answer = chat(http, messages, truncation="auto", stream=stream)
    assert answer.status_code == 200
    dropped = int(answer.headers[HEADER])
    assert dropped % 2 == 0
    rest = [messages[0], *messages[1 + dropped :]]
    # As much stays as leaves room for the answer, and no more is dropped than that.
    assert tokens_of(http, rest) + 12 <= 512
    assert tokens_of(http, [messages[0], *messages[dropped - 1 :]]) + 12 > 512
    if not stream:
        alone = chat(http, rest).json()
        assert answer.json()["choices"] == alone["choices"]
        assert answer.json()["usage"]["prompt_tokens"] == tokens_of(http, rest)
    daemon.wait_for_log(f"truncated: {dropped} of {len(messages)} messages dropped")


def test_what_cannot_be_dropped_is_an_error_all_the_same(http):
    long = {"role": "user", "content": "word " * 2000}
    answer = chat(http, [SYSTEM, *conversation(2)[1:], long], truncation="auto")
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "context_length_exceeded"


def test_an_agents_calls_go_with_their_results(http):
    def call(i):
        function = {"name": "look", "arguments": "{}"}
        calls = [{"id": f"c{i}", "type": "function", "function": function}]
        return [
            {"role": "assistant", "content": "", "tool_calls": calls},
            {"role": "tool", "tool_call_id": f"c{i}", "content": f"found {i} " * 40},
        ]

    messages = [SYSTEM, QUESTION, *(m for i in range(8) for m in call(i))]
    answer = chat(http, messages, truncation="auto")
    assert answer.status_code == 200, answer.text
    dropped = int(answer.headers[HEADER])
    assert dropped % 2 == 0
    rest = [*messages[:2], *messages[2 + dropped :]]
    assert answer.json()["usage"]["prompt_tokens"] == tokens_of(http, rest)


def test_responses(http):
    items = [
        {"role": m["role"], "content": m["content"]} for m in conversation(20) if m is not SYSTEM
    ]
    body = {"input": items, "instructions": SYSTEM["content"], "max_output_tokens": 12}
    answer = http.post("/v1/responses", json=body)
    assert answer.status_code == 400
    answer = http.post("/v1/responses", json=body | {"truncation": "auto"})
    assert answer.status_code == 200
    assert int(answer.headers[HEADER]) > 0
    assert answer.json()["truncation"] == "auto"


def test_ollama(daemon, http):
    client = ollama.Client(host=daemon.url)
    body = {"model": MODEL, "messages": conversation(20), "stream": False}
    body["options"] = {"num_predict": 12, "temperature": 0}
    assert http.post("/api/chat", json=body).status_code == 400
    assert http.post("/api/chat", json=body | {"truncate": False}).status_code == 400
    answer = http.post("/api/chat", json=body | {"truncate": True, "shift": False})
    assert answer.status_code == 200
    assert int(answer.headers[HEADER]) > 0
    assert client.generate(MODEL, "hi", options={"num_predict": 2}).done


def test_a_models_own_choice_holds_for_all_apis(start, tmp_path):
    folder = tmp_path / "configs" / "models"
    folder.mkdir(parents=True)
    (folder / f"{MODEL}.yaml").write_text("truncation: auto\ncontext_length: 512\n")
    daemon = start("--model-folders", MODELS, home=tmp_path)
    messages = conversation(20)
    with daemon.client() as http:
        answer = chat(http, messages)
        assert answer.status_code == 200
        assert int(answer.headers[HEADER]) > 0
        assert chat(http, messages, truncation="disabled").status_code == 400
        anthropic = http.post(
            "/v1/messages",
            json={
                "model": MODEL,
                "max_tokens": 12,
                "system": SYSTEM["content"],
                "messages": messages[1:],
            },
        )
        assert anthropic.status_code == 200, anthropic.text
        assert int(anthropic.headers[HEADER]) > 0
        stored = http.post("/v1/responses", json={"input": "Hello", "max_output_tokens": 4})
        assert stored.json()["truncation"] == "auto"
    roles = {"user": "ROLE_USER", "assistant": "ROLE_ASSISTANT", "system": "ROLE_SYSTEM"}
    call = GrpcClient(f"unix:{daemon.home}/mlxr-grpc.sock").call(
        "Inference/Chat",
        {
            "messages": [{"role": roles[m["role"]], "content": m["content"]} for m in messages],
            "options": {"max_tokens": 12},
        },
    )
    assert int(dict(call.initial_metadata())[HEADER]) > 0
    assert list(call)
