"""An answer that fills the context window: it ends there, or goes on where somebody chose so."""

import pytest
from grpc_client import GrpcClient
from running_daemon import MODELS, RunningDaemon, endless, events_of

MODEL = "mlxr-demo"
WINDOW = 256
LONG = 600
SYSTEM = "You are a very patient teller of stories about animals in the forest."
MESSAGES = [
    {"role": "system", "content": SYSTEM},
    {"role": "user", "content": "Tell me a story."},
]


@pytest.fixture(scope="module")
def daemon():
    with RunningDaemon("--context-length", str(WINDOW)) as running:
        yield running


@pytest.fixture
def http(daemon):
    with daemon.client() as client:
        yield client


def tokens_of(http, **body):
    return http.post("/tokenize", json=body).json()["tokens"]


def text_of(http, tokens):
    return http.post("/detokenize", json={"tokens": tokens}).json()["content"]


def shifts(http):
    lines = http.get("/metrics").text.splitlines()
    found = [line for line in lines if line.startswith("mlxr_context_shifts_total{")]
    return sum(float(line.split()[-1]) for line in found)


def complete(http, **fields):
    answer = http.post("/v1/completions", json=endless(**fields))
    assert answer.status_code == 200, answer.text
    return answer.json()


def shifted(tokens, keep):
    """What is left of a full window."""
    assert len(tokens) == WINDOW
    return tokens[:keep] + tokens[keep + (WINDOW - keep) // 2 :]


def test_without_a_choice_it_ends(http):
    before = shifts(http)
    for fields in ({}, {"context_shift": False}, {"n_keep": 4}):
        answer = complete(http, max_tokens=LONG, **fields)
        assert answer["choices"][0]["finish_reason"] == "length"
        assert answer["usage"]["total_tokens"] == WINDOW
    assert shifts(http) == before
    for field, value in (("context_shift", "yes"), ("n_keep", -2), ("n_keep", "all")):
        refused = http.post("/v1/completions", json=endless(**{field: value}))
        assert refused.status_code == 400
        assert refused.json()["error"]["param"] == field


def test_the_context_of_a_shifted_answer_can_be_gone_on_from(http):
    """It is all of the text, which no window holds; the same rule makes it fit."""
    options = {"temperature": 0, "ignore_eos": True, "num_predict": LONG}
    body = {"model": MODEL, "stream": False, "options": options}
    first = http.post("/api/generate", json=body | {"prompt": "Once upon a time"}).json()
    assert len(first["context"]) > WINDOW
    more = body | {"prompt": " And then", "context": first["context"]}
    second = http.post("/api/generate", json=more)
    assert second.status_code == 200, second.text
    assert second.json()["eval_count"] == LONG
    read, dropped = second.json()["prompt_eval_count"], second.headers["x-mlxr-truncated-tokens"]
    assert WINDOW // 4 < read < WINDOW
    assert read + int(dropped) > len(first["context"])
    short = http.post("/api/generate", json=body | {"prompt": "a", "context": [5, 6]})
    assert "x-mlxr-truncated-tokens" not in short.headers
    refused = http.post("/api/generate", json=more | {"shift": False})
    assert refused.status_code == 400
    assert "context" in refused.json()["error"]


@pytest.mark.parametrize("keep", [0, 3, 40])
def test_what_follows_is_what_a_fresh_request_gets(daemon, http, keep):
    before = shifts(http)
    # Ollama's API says which tokens an answer has.
    options = {"temperature": 0, "ignore_eos": True, "num_predict": LONG, "num_keep": keep}
    body = {"model": MODEL, "prompt": "Once upon a time there was a fox called Tom."}
    answer = http.post("/api/generate", json=body | {"options": options, "stream": False}).json()
    assert answer["eval_count"] == LONG
    whole = answer["context"]
    start = len(whole) - LONG
    assert answer["prompt_eval_count"] == start
    daemon.wait_until_quiet()
    assert shifts(http) > before
    daemon.wait_for_log(f"of {WINDOW} tokens dropped")

    # Another API, the same tokens.
    fields = {"max_tokens": LONG, "context_shift": True, "n_keep": keep}
    same = complete(http, prompt=whole[:start], skip_special_tokens=False, **fields)
    assert same["choices"][0]["text"] == text_of(http, whole[start:])
    assert same["usage"]["prompt_tokens"] == start
    assert same["usage"]["completion_tokens"] == LONG

    # And by hand.
    window, done = whole[:WINDOW], WINDOW - start
    while done < LONG:
        left = shifted(window, min(keep, start))
        part = complete(http, prompt=left, max_tokens=LONG - done, skip_special_tokens=False)
        count = part["usage"]["completion_tokens"]
        expected = whole[start + done : start + done + count]
        assert part["choices"][0]["text"] == text_of(http, expected)
        window, done = left + expected, done + count


def test_a_stream_goes_on_too(http):
    body = {"messages": MESSAGES, "max_tokens": LONG, "ignore_eos": True, "stream": True}
    body |= {"context_shift": True, "stream_options": {"include_usage": True}}
    with http.stream("POST", "/v1/chat/completions", json=body) as answer:
        events = [e for e in events_of(answer) if e != "[DONE]"]
    assert events[-1]["usage"]["completion_tokens"] == LONG
    assert events[-2]["choices"][0]["finish_reason"] == "length"


def test_several_choices(http):
    answer = complete(http, n=3, seed=7, temperature=1, max_tokens=LONG, context_shift=True)
    assert answer["usage"]["completion_tokens"] == 3 * LONG
    assert len({choice["text"] for choice in answer["choices"]}) == 3
    again = complete(http, n=3, seed=7, temperature=1, max_tokens=LONG, context_shift=True)
    assert again["choices"] == answer["choices"]


def test_ollama_shifts_unless_told_otherwise(http):
    def chat(path="/api/chat", num_predict=LONG, **fields):
        options = {"temperature": 0, "ignore_eos": True, "num_predict": num_predict}
        body = {"model": MODEL, "messages": MESSAGES, "prompt": "Hi", "stream": False}
        answer = http.post(path, json=body | {"options": options} | fields)
        assert answer.status_code == 200, answer.text
        return answer.json()

    for path in ("/api/chat", "/api/generate"):
        for fields in ({}, {"shift": True}):
            answer = chat(path, **fields)
            assert answer["eval_count"] == LONG
            assert answer["done_reason"] == "length"
        for fields in ({"shift": False}, {"num_predict": -2}):
            answer = chat(path, **fields)
            assert answer["done_reason"] == "length"
            assert answer["prompt_eval_count"] + answer["eval_count"] == WINDOW


def test_an_endless_answer_ends_after_ten_windows(http):
    answer = complete(http, prompt="a", context_shift=True)
    assert answer["usage"]["completion_tokens"] == 10 * WINDOW


def test_responses_and_anthropic(http):
    body = {"input": "Hi", "max_output_tokens": LONG, "ignore_eos": True, "context_shift": True}
    answer = http.post("/v1/responses", json=body).json()
    assert answer["usage"]["output_tokens"] == LONG
    body = {"model": MODEL, "max_tokens": LONG, "messages": MESSAGES[1:], "n_keep": 5}
    assert http.post("/v1/messages", json=body | {"context_shift": "yes"}).status_code == 400
    answer = http.post("/v1/messages", json=body | {"context_shift": True})
    assert answer.status_code == 200, answer.text


def test_grpc(daemon):
    with GrpcClient(f"unix:{daemon.home / 'mlxr-grpc.sock'}") as client:
        for fields, tokens in (({"context_shift": True, "n_keep": -1}, LONG), ({}, None)):
            body = {
                "text": "Once upon a time",
                "options": {"max_tokens": LONG, "ignore_eos": True, **fields},
                "sampling": {"temperature": 0},
            }
            usage = list(client.call("Inference/Generate", body))[-1].usage
            total = usage.prompt_tokens + usage.completion_tokens
            assert usage.completion_tokens == tokens if tokens else total == WINDOW


def test_the_system_message_stays(http):
    """What comes after a shift knows nothing of the question, but of the system message. Its tokens
    may be the same without that; their probabilities are not."""
    body = {"messages": MESSAGES, "max_tokens": LONG, "temperature": 0, "ignore_eos": True}
    body["logprobs"] = True
    plain = http.post("/v1/chat/completions", json=body | {"context_shift": True}).json()
    system = tokens_of(http, content=f"<|im_start|>system\n{SYSTEM}<|im_end|>\n")
    with_count = body | {"context_shift": True, "n_keep": len(system)}
    kept = http.post("/v1/chat/completions", json=with_count).json()
    none = http.post("/v1/chat/completions", json=with_count | {"n_keep": 0}).json()
    assert plain["choices"] == kept["choices"]
    assert plain["choices"] != none["choices"]


def test_a_models_own_choice_holds_for_all_apis(start, tmp_path):
    folder = tmp_path / "configs" / "models"
    folder.mkdir(parents=True)
    file = folder / f"{MODEL}.yaml"
    ollama = {"model": MODEL, "prompt": "Hi", "raw": True, "stream": False}
    ollama["options"] = {"ignore_eos": True, "num_predict": 200, "temperature": 0}
    for shifting in (True, False):
        file.write_text(f"context_shift: {str(shifting).lower()}\ncontext_length: 128\n")
        daemon = start("--model-folders", MODELS, home=tmp_path)
        with daemon.client() as http:
            answer = complete(http, max_tokens=200)
            assert (answer["usage"]["completion_tokens"] == 200) == shifting
            answer = complete(http, max_tokens=200, context_shift=not shifting)
            assert (answer["usage"]["completion_tokens"] == 200) != shifting
            answer = http.post("/api/generate", json=ollama).json()
            assert (answer["eval_count"] == 200) == shifting
            answer = http.post("/api/generate", json=ollama | {"shift": not shifting}).json()
            assert (answer["eval_count"] == 200) != shifting
        daemon.stop()
