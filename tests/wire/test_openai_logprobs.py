"""Logprobs are those of the content, in one piece as in a stream; usage says what was thought."""

import pytest
from running_daemon import chat_body, events_of
from test_tools import TOOLS

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
RESPONSES = "/v1/responses"
THINK = [
    {"role": "system", "content": "Think first, then answer."},
    {"role": "user", "content": "What is 63 + 81 - 88?"},
]
INCLUDE = ["message.output_text.logprobs"]


def text_of(entries):
    return b"".join(bytes(e["bytes"]) for e in entries).decode()


def whole(http, path, body):
    answer = http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def streamed(http, path, body):
    with http.stream("POST", path, json=body | {"stream": True}) as answer:
        assert answer.status_code == 200, answer.read()
        return [e for e in events_of(answer) if e != "[DONE]"]


def chunks_of(http, body):
    return [e["choices"][0] for e in streamed(http, CHAT, body)]


def entries_of(chunks):
    return [e for c in chunks if c["logprobs"] for e in c["logprobs"]["content"]]


@pytest.fixture
def thought():
    return {"messages": THINK, "temperature": 0, "logprobs": True, "top_logprobs": 1}


def test_thoughts_have_no_logprobs(http, thought):
    choice = whole(http, CHAT, thought)["choices"][0]
    assert choice["message"]["reasoning_content"]
    entries = choice["logprobs"]["content"]
    assert entries
    assert text_of(entries).strip() == choice["message"]["content"].strip()
    chunks = chunks_of(http, thought)
    assert entries_of(chunks) == entries
    for chunk in chunks:
        if "reasoning_content" in chunk["delta"]:
            assert chunk["logprobs"] is None


def test_each_chunk_has_the_logprobs_of_its_content(http):
    body = chat_body("Count from 3 to 9.", logprobs=True, temperature=0)
    for chunk in chunks_of(http, body)[1:-1]:
        assert text_of(chunk["logprobs"]["content"]) == chunk["delta"]["content"]


def test_characters_of_several_tokens_keep_all_of_them(http):
    body = chat_body("Say it.", logprobs=True, temperature=0, guided_regex="ab🦊🦊é—x")
    choice = whole(http, CHAT, body)["choices"][0]
    assert choice["message"]["content"] == "ab🦊🦊é—x"
    assert text_of(choice["logprobs"]["content"]) == "ab🦊🦊é—x"
    assert entries_of(chunks_of(http, body)) == choice["logprobs"]["content"]


@pytest.mark.parametrize("choice", ["auto", "required"])
def test_calls_have_no_logprobs(http, choice):
    body = chat_body("weather in Accra", tools=TOOLS, tool_choice=choice)
    body |= {"temperature": 0, "logprobs": True, "max_tokens": 60}
    answer = whole(http, CHAT, body)["choices"][0]
    assert answer["message"]["tool_calls"]
    assert answer["logprobs"]["content"] == []
    chunks = chunks_of(http, body)
    assert entries_of(chunks) == []
    assert all("content" not in c["delta"] for c in chunks[1:])


def test_text_cut_by_a_stop_string_has_no_logprobs(http):
    body = chat_body("Count from 3 to 9.", logprobs=True, temperature=0, stop=["6"])
    choice = whole(http, CHAT, body)["choices"][0]
    content = choice["message"]["content"]
    entries = choice["logprobs"]["content"]
    assert text_of(entries).startswith(content)
    assert text_of(entries[:-1]) != content or not content
    assert entries_of(chunks_of(http, body)) == entries


def test_responses_have_the_logprobs_of_their_text(http):
    body = {
        "instructions": THINK[0]["content"],
        "input": THINK[1]["content"],
        "temperature": 0,
        "include": INCLUDE,
    }
    thought, message = whole(http, RESPONSES, body)["output"]
    assert thought["type"] == "reasoning"
    (part,) = message["content"]
    assert part["logprobs"]
    assert text_of(part["logprobs"]).strip() == part["text"].strip()
    events = streamed(http, RESPONSES, body)
    deltas = [e for e in events if e["type"] == "response.output_text.delta"]
    assert [p for e in deltas for p in e["logprobs"]] == part["logprobs"]
    (done,) = [e for e in events if e["type"] == "response.output_text.done"]
    assert done["logprobs"] == part["logprobs"]
    last = events[-1]["response"]["output"][-1]["content"][0]
    assert last["logprobs"] == part["logprobs"]


@pytest.mark.parametrize("count", [0, 2])
def test_the_sampled_token_is_always_among_the_likeliest(http, count):
    body = {"prompt": "Once upon a time", "max_tokens": 24, "seed": 7, "logprobs": count}
    body |= {"temperature": 2, "top_k": 0, "top_p": 1, "min_p": 0, "ignore_eos": True}
    probs = whole(http, TEXT, body)["choices"][0]["logprobs"]
    tops = probs["top_logprobs"]
    for token, logprob, top in zip(probs["tokens"], probs["token_logprobs"], tops, strict=True):
        assert top[token] == logprob
        assert count <= len(top) <= count + 1
    assert count == 0 or {len(t) for t in tops} == {count, count + 1}
    pieces = [e["choices"][0]["logprobs"] for e in streamed(http, TEXT, body)]
    assert [t for p in pieces if p for t in p["top_logprobs"]] == tops


def test_usage_counts_what_was_thought(http):
    body = {"messages": THINK, "temperature": 0}
    usage = whole(http, CHAT, body)["usage"]
    count = usage["completion_tokens_details"]["reasoning_tokens"]
    assert 0 < count < usage["completion_tokens"]
    asked = {"instructions": THINK[0]["content"], "input": THINK[1]["content"], "temperature": 0}
    told = whole(http, RESPONSES, asked)["usage"]["output_tokens_details"]
    assert told["reasoning_tokens"] == count
    last = streamed(http, CHAT, body | {"stream_options": {"include_usage": True}})[-1]
    assert last["usage"]["completion_tokens_details"] == {"reasoning_tokens": count}
    both = whole(http, CHAT, body | {"n": 2})["usage"]
    assert both["completion_tokens_details"]["reasoning_tokens"] == 2 * count


def test_without_thoughts_usage_counts_none(http):
    for path, body in ((CHAT, chat_body("Who are you?")), (TEXT, {"prompt": "Once"})):
        usage = whole(http, path, body | {"max_tokens": 4})["usage"]
        assert usage["completion_tokens_details"] == {"reasoning_tokens": 0}
