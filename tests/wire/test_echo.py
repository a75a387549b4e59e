"""Completions that begin with their prompts."""

from running_daemon import events_of

BODY = {"temperature": 0, "max_tokens": 5}


def ask(http, **fields):
    return http.post("/v1/completions", json=BODY | fields).json()["choices"]


def test_each_choice_begins_with_its_own_prompt(http):
    prompts = ["Once upon a time", "Who are", "🦊"]
    plain = ask(http, prompt=prompts, n=2, seed=1)
    echoed = ask(http, prompt=prompts, n=2, seed=1, echo=True)
    wanted = [p + c["text"] for p, c in zip([p for p in prompts for _ in "ab"], plain, strict=True)]
    assert [c["text"] for c in echoed] == wanted


def test_token_ids_are_shown_as_text(http):
    ids = http.post("/tokenize", json={"content": "Once upon a time"}).json()["tokens"]
    (choice,) = ask(http, prompt=ids, echo=True)
    assert choice["text"].startswith("Once upon a time")
    assert len(choice["text"]) > len("Once upon a time")


def test_a_stream_adds_up_to_the_whole(http):
    prompts = ["Once upon a time", "Who are"]
    whole = [c["text"] for c in ask(http, prompt=prompts, echo=True)]
    texts = ["", ""]
    body = BODY | {"prompt": prompts, "echo": True, "stream": True}
    with http.stream("POST", "/v1/completions", json=body) as answer:
        for event in events_of(answer):
            if event != "[DONE]":
                (choice,) = event["choices"]
                texts[choice["index"]] += choice["text"]
    assert texts == whole
