"""What requests can ask of sampling: seeds, stops, biases, penalties, log probabilities."""

import math

import pytest
from running_daemon import chat_body, events_of

STORY = "Tell me a story about a fox and a lantern."


def complete(http, **fields):
    answer = http.post("/v1/completions", json={"temperature": 0, "max_tokens": 24, **fields})
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]


def test_same_seed_same_text(http):
    def ask(seed):
        body = chat_body(STORY, seed=seed, max_tokens=40) | {"temperature": 1}
        return http.post("/v1/chat/completions", json=body).json()["choices"][0]["message"][
            "content"
        ]

    first = ask(1)
    assert ask(1) == first
    assert len({first, ask(2), ask(3), ask(4)}) > 1


def test_stop_strings_end_the_answer_and_are_not_part_of_it(http):
    full = complete(http, prompt="Once upon a time", max_tokens=40)["text"]
    word = full.split()[4]
    at = full.index(word)
    for stop in (word, ["never to be seen", word]):
        choice = complete(http, prompt="Once upon a time", max_tokens=40, stop=stop)
        assert choice["text"] == full[:at]
        assert choice["finish_reason"] == "stop"


def test_stop_string_over_token_borders_never_leaks_into_the_stream(http):
    full = complete(http, prompt="Once upon a time", max_tokens=40)["text"]
    stop = full[len(full) // 2 - 3 : len(full) // 2 + 4]
    body = {"prompt": "Once upon a time", "temperature": 0, "max_tokens": 40, "stop": stop}
    with http.stream("POST", "/v1/completions", json=body | {"stream": True}) as answer:
        events = [e for e in events_of(answer) if e != "[DONE]"]
    text = "".join(e["choices"][0]["text"] for e in events)
    assert text == full[: full.index(stop)]
    assert events[-1]["choices"][0]["finish_reason"] == "stop"


def test_logit_bias_forces_and_forbids_a_token(http):
    forced = complete(http, prompt="Once upon a time", max_tokens=6, logit_bias={"300": 100})
    again = complete(http, prompt="The end of", max_tokens=6, logit_bias={"300": 100})
    assert forced["text"] == again["text"] != ""
    assert forced["finish_reason"] == "length"
    # Forbidding each best token in turn must change the first token each time.
    first = complete(http, prompt=[1, 300, 301], max_tokens=1)["text"]
    forbidden = complete(
        http, prompt=[1, 300, 301], max_tokens=1, logit_bias={str(i): -100 for i in range(3000)}
    )["text"]
    allowed = complete(
        http,
        prompt=[1, 300, 301],
        max_tokens=1,
        logit_bias={str(i): -100 for i in range(3000, 6144)},
    )["text"]
    assert forbidden != allowed
    assert first in (forbidden, allowed)


def test_repeat_penalty_breaks_repetition(http):
    plain = complete(http, prompt="a a a a a a a a a a a a", ignore_eos=True, max_tokens=40)["text"]
    penalised = complete(
        http,
        prompt="a a a a a a a a a a a a",
        ignore_eos=True,
        max_tokens=40,
        repetition_penalty=2,
        frequency_penalty=2,
    )["text"]
    assert len(set(penalised.split())) > len(set(plain.split()))


def test_chat_logprobs(http):
    body = chat_body("Who are you?", logprobs=True, top_logprobs=3)
    choice = http.post("/v1/chat/completions", json=body).json()["choices"][0]
    entries = choice["logprobs"]["content"]
    text = b"".join(bytes(e["bytes"]) for e in entries if e["token"] != "<|im_end|>")
    assert text.decode() == choice["message"]["content"]
    for entry in entries:
        assert len(entry["top_logprobs"]) == 3
        best = [t["logprob"] for t in entry["top_logprobs"]]
        assert best == sorted(best, reverse=True)
        assert entry["logprob"] == best[0] <= 0  # greedy takes the best
        assert sum(math.exp(p) for p in best) <= 1.0001


def test_completion_logprobs_and_offsets(http):
    choice = complete(http, prompt="Once upon a time", logprobs=2)
    probs = choice["logprobs"]
    assert "".join(probs["tokens"]) == choice["text"]
    assert len(probs["token_logprobs"]) == len(probs["tokens"]) == len(probs["top_logprobs"]) == 24
    assert all(len(t) == 2 for t in probs["top_logprobs"])
    for token, offset in zip(probs["tokens"], probs["text_offset"], strict=True):
        assert choice["text"][offset : offset + len(token)] == token


def test_logprobs_do_not_depend_on_sampling(http):
    """They are of the model's own distribution, not of the tempered one."""
    cold = complete(http, prompt="Once upon a time", max_tokens=1, logprobs=5)["logprobs"]
    hot = complete(http, prompt="Once upon a time", max_tokens=1, logprobs=5, temperature=2, seed=1)
    assert hot["logprobs"]["top_logprobs"] == cold["top_logprobs"]


def test_streamed_logprobs_equal_whole_ones(http):
    body = chat_body("Who are you?", logprobs=True, top_logprobs=1)
    whole = http.post("/v1/chat/completions", json=body).json()["choices"][0]["logprobs"]["content"]
    streamed = []
    with http.stream("POST", "/v1/chat/completions", json=body | {"stream": True}) as answer:
        for event in events_of(answer):
            if event != "[DONE]" and event["choices"][0]["logprobs"]:
                streamed += event["choices"][0]["logprobs"]["content"]
    assert streamed == whole


def test_max_tokens_and_its_newer_name(http):
    for name in ("max_tokens", "max_completion_tokens"):
        body = chat_body(STORY, **{name: 7})
        answer = http.post("/v1/chat/completions", json=body).json()
        assert answer["usage"]["completion_tokens"] == 7
        assert answer["choices"][0]["finish_reason"] == "length"


def test_prompt_as_token_ids(http):
    with_ids = complete(http, prompt=[1, 300, 301, 302], max_tokens=8)
    nested = complete(http, prompt=[[1, 300, 301, 302]], max_tokens=8)
    assert with_ids["text"] == nested["text"]


def test_typed_control_tokens_cannot_end_the_turn(http):
    def prompt_tokens(text):
        body = chat_body(text, max_tokens=1)
        return http.post("/v1/chat/completions", json=body).json()["usage"]["prompt_tokens"]

    # As a control token it would add one; as typed text it adds several.
    assert prompt_tokens("hi<|im_end|>") - prompt_tokens("hi") > 2


@pytest.mark.parametrize("field", ["top_k", "top_p", "min_p", "typical_p"])
def test_narrowest_truncation_is_greedy(http, field):
    narrow = {"top_k": 1, "top_p": 0.0001, "min_p": 1, "typical_p": None}[field]
    greedy = complete(http, prompt="Once upon a time")["text"]
    if narrow is None:
        # The most typical token need not be the best one: only that it is always the same.
        ask = {"prompt": "Once upon a time", "temperature": 1, "typical_p": 0.0001}
        assert complete(http, seed=1, **ask)["text"] == complete(http, seed=2, **ask)["text"]
    else:
        hot = complete(http, prompt="Once upon a time", temperature=1, seed=3, **{field: narrow})
        assert hot["text"] == greedy


def test_best_of_shows_the_likeliest_and_counts_all(http):
    body = {"prompt": ["Once upon a time", "The"], "temperature": 1, "seed": 5, "max_tokens": 12}
    every = http.post("/v1/completions", json={**body, "n": 4, "logprobs": 0}).json()

    def mean(choice):
        found = choice["logprobs"]["token_logprobs"]
        return sum(found) / len(found)

    wanted = []
    for prompt in (every["choices"][:4], every["choices"][4:]):
        wanted += sorted(prompt, key=mean, reverse=True)[:2]
    best = http.post("/v1/completions", json={**body, "n": 2, "best_of": 4, "echo": False}).json()
    assert [c["text"] for c in best["choices"]] == [c["text"] for c in wanted]
    assert [c["index"] for c in best["choices"]] == [0, 1, 2, 3]
    assert all(c["logprobs"] is None for c in best["choices"])
    assert best["usage"]["completion_tokens"] == every["usage"]["completion_tokens"]
    assert best["usage"]["prompt_tokens"] == every["usage"]["prompt_tokens"]
