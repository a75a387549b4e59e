"""What lm-evaluation-harness measures: the logprobs of a prompt, asked for with echo."""

import itertools

import pytest
from running_daemon import chat_body, events_of

STORY = "Once upon a time"
LONG = "The quick brown fox jumps over the lazy dog, 12 times. " * 12
BODY = {"temperature": 0, "max_tokens": 0, "echo": True, "logprobs": 2}


def answer_of(http, **fields):
    answer = http.post("/v1/completions", json=BODY | fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


def ask(http, **fields):
    return answer_of(http, **fields)["choices"]


def tokens_of(http, text):
    return http.post("/tokenize", json={"content": text}).json()["tokens"]


def check_shape(choice):
    """Lists of one length, the first token without a probability, each where it says it is."""
    probs = choice["logprobs"]
    assert {len(probs[name]) for name in probs} == {len(probs["tokens"])}
    assert probs["token_logprobs"][0] is None
    assert probs["top_logprobs"][0] is None
    assert all(p <= 0 for p in probs["token_logprobs"][1:])
    for token, offset in zip(probs["tokens"], probs["text_offset"], strict=True):
        if not token.startswith("bytes:"):
            assert choice["text"][offset : offset + len(token)] == token
    for token, logprob, top in list(
        zip(probs["tokens"], probs["token_logprobs"], probs["top_logprobs"], strict=True)
    )[1:]:
        assert top[token] == logprob
        assert 2 <= len(top) <= 3


def test_the_prompt_alone(http):
    answer = answer_of(http, prompt=STORY)
    (choice,) = answer["choices"]
    assert (choice["text"], choice["finish_reason"]) == (STORY, "length")
    assert answer["usage"]["completion_tokens"] == 0
    assert len(choice["logprobs"]["tokens"]) == answer["usage"]["prompt_tokens"]
    check_shape(choice)


def test_no_tokens_without_echo(http):
    answer = answer_of(http, prompt=STORY, echo=False, logprobs=None)
    (choice,) = answer["choices"]
    assert (choice["text"], choice["finish_reason"]) == ("", "length")
    assert choice["logprobs"] is None
    assert answer["usage"]["completion_tokens"] == 0
    (choice,) = ask(http, prompt=STORY, logprobs=None)
    assert (choice["text"], choice["logprobs"]) == (STORY, None)


@pytest.mark.parametrize("prompt", [STORY, LONG])
def test_a_told_text_has_the_logprobs_that_it_had_when_it_was_told(http, prompt):
    ids = tokens_of(http, prompt)
    (told,) = ask(http, prompt=ids, max_tokens=40, echo=False, ignore_eos=True)
    said = told["logprobs"]
    whole = ids + http.post("/tokenize", json={"content": told["text"]}).json()["tokens"]
    (one,) = ask(http, prompt=ids, max_tokens=40, ignore_eos=True)
    check_shape(one)
    for name in ("tokens", "token_logprobs", "top_logprobs"):
        assert one["logprobs"][name][len(ids) :] == said[name]
    (echoed,) = ask(http, prompt=whole)
    check_shape(echoed)
    # A text may read as other tokens than it was written in; up to there they are the same.
    pairs = zip(echoed["logprobs"]["tokens"][len(ids) :], said["tokens"], strict=False)
    same = len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)))
    assert same >= 10
    for name in ("tokens", "token_logprobs", "top_logprobs"):
        assert echoed["logprobs"][name][len(ids) :][:same] == said[name][:same]


def test_prompts_in_one_request_are_as_alone(http):
    prompts = [STORY, LONG, "🦊 Füchse", "a"]
    alone = [ask(http, prompt=p, max_tokens=1)[0] for p in prompts]
    together = ask(http, prompt=prompts, max_tokens=1)
    for i, (one, choice) in enumerate(zip(alone, together, strict=True)):
        assert choice == one | {"index": i}
        check_shape(choice)
    ids = [tokens_of(http, p) for p in prompts]
    for one, choice in zip(alone, ask(http, prompt=ids, max_tokens=1), strict=True):
        assert choice["logprobs"]["token_logprobs"] == one["logprobs"]["token_logprobs"]


def test_every_choice_has_its_prompt(http):
    choices = ask(http, prompt=[STORY, "Who are"], n=2, max_tokens=3, temperature=1, seed=1)
    for choice, prompt in zip(choices, [STORY, STORY, "Who are", "Who are"], strict=True):
        assert choice["text"].startswith(prompt)
        check_shape(choice)
    (best,) = ask(http, prompt=STORY, best_of=3, max_tokens=3, temperature=1, seed=1)
    check_shape(best)


def test_a_cached_prompt_is_scored_all_the_same(http):
    (first,) = ask(http, prompt=LONG, max_tokens=2)
    plain = answer_of(http, prompt=LONG, echo=False, max_tokens=2, logprobs=None)
    assert first["text"] == LONG + plain["choices"][0]["text"]
    again = answer_of(http, prompt=LONG, max_tokens=2)
    assert again["choices"] == [first]
    assert again["usage"]["prompt_tokens_details"]["cached_tokens"] == 0


@pytest.mark.parametrize("limit", [0, 1, 7])
def test_a_stream_adds_up_to_the_whole(http, limit):
    fields = {"prompt": [STORY, LONG], "max_tokens": limit}
    whole = ask(http, **fields)
    texts = ["", ""]
    lists = [{name: [] for name in whole[0]["logprobs"]} for _ in whole]
    with http.stream("POST", "/v1/completions", json=BODY | fields | {"stream": True}) as answer:
        for event in events_of(answer):
            if event == "[DONE]":
                continue
            (choice,) = event["choices"]
            texts[choice["index"]] += choice["text"]
            for name, values in (choice["logprobs"] or {}).items():
                lists[choice["index"]][name] += values
    assert texts == [c["text"] for c in whole]
    assert lists == [c["logprobs"] for c in whole]


def test_the_harness_loglikelihood(http):
    """As TemplateAPI and LocalCompletionsAPI of lm-evaluation-harness ask and read."""
    context, rest = tokens_of(http, "Lena is 41 years"), tokens_of(http, " old.")
    body = {"model": "mlxr-demo", "prompt": [context + rest], "temperature": 0, "max_tokens": 1}
    answer = http.post("/v1/completions", json=body | {"logprobs": 1, "seed": 1234, "echo": True})
    for choice in sorted(answer.json()["choices"], key=lambda c: c["index"]):
        logprobs = choice["logprobs"]["token_logprobs"][len(context) : -1]
        tops = choice["logprobs"]["top_logprobs"][len(context) : -1]
        assert len(logprobs) == len(rest)
        assert sum(logprobs) < 0
        for logprob, top in zip(logprobs, tops, strict=True):
            assert logprob <= max(top.values())


def test_the_window_may_be_full(http):
    window = http.get("/v1/models/mlxr-demo").json()["context_length"]
    ids = (tokens_of(http, LONG) * (window // 10))[:window]
    (choice,) = ask(http, prompt=ids, logprobs=0)
    assert len(choice["logprobs"]["tokens"]) == window
    for fields in ({"prompt": [*ids, 5]}, {"prompt": ids, "max_tokens": 1}):
        assert http.post("/v1/completions", json=BODY | fields).status_code == 400


def test_chats_still_want_a_token(http):
    answer = http.post("/v1/chat/completions", json=chat_body("Hi", max_tokens=0))
    assert answer.json()["error"]["param"] == "max_tokens"
