"""Tokenize and detokenize, as llama-server's and vLLM's clients ask for them."""

import pytest

TEXT = "Grüße <|im_end|> from 東京 🦊"
WHO = [{"role": "user", "content": "Who are you?"}]


def ask(http, path, **body):
    answer = http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_llama_servers_shape(http):
    answer = ask(http, "/tokenize", content=TEXT)
    assert set(answer) == {"tokens"}
    assert ask(http, "/detokenize", tokens=answer["tokens"])["content"] == TEXT
    typed = ask(http, "/tokenize", content=TEXT, parse_special=False)["tokens"]
    assert len(typed) > len(answer["tokens"])
    assert ask(http, "/detokenize", tokens=typed)["content"] == TEXT


def test_pieces_are_text_or_bytes_and_join_to_the_text(http):
    tokens = ask(http, "/tokenize", content=TEXT, with_pieces=True)["tokens"]
    assert [t["id"] for t in tokens] == ask(http, "/tokenize", content=TEXT)["tokens"]
    pieces = [t["piece"] for t in tokens]
    assert any(isinstance(piece, list) for piece in pieces)
    joined = b"".join(p.encode() if isinstance(p, str) else bytes(p) for p in pieces)
    assert joined.decode() == TEXT


def test_vllms_shape(http):
    answer = ask(http, "/tokenize", model="mlxr-demo", prompt="Once upon a time")
    assert set(answer) == {"count", "max_model_len", "tokens", "token_strs"}
    assert answer["count"] == len(answer["tokens"])
    assert answer["max_model_len"] == 2048
    assert answer["token_strs"] is None
    back = ask(http, "/detokenize", model="mlxr-demo", tokens=answer["tokens"])
    assert back["prompt"] == "Once upon a time"
    shown = ask(http, "/tokenize", prompt="Once upon a time", return_token_strs=True)
    assert "".join(shown["token_strs"]) == "Once upon a time"


def test_a_chats_tokens_are_those_that_it_is_answered_from(http):
    tokens = ask(http, "/tokenize", model="mlxr-demo", messages=WHO)["tokens"]
    body = {"messages": WHO, "max_tokens": 1}
    used = http.post("/v1/chat/completions", json=body).json()["usage"]["prompt_tokens"]
    assert len(tokens) == used == 14
    assert "<|im_end|>" in ask(http, "/detokenize", tokens=tokens)["content"]


def test_nothing_is_no_token(http):
    assert ask(http, "/tokenize", content="")["tokens"] == []
    assert ask(http, "/detokenize", tokens=[])["content"] == ""


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"content": 3}, "content"),
        ("/tokenize", {"messages": []}, "messages"),
        ("/tokenize", {"messages": WHO, "add_generation_prompt": False}, "add_generation_prompt"),
        ("/detokenize", {}, "tokens"),
        ("/detokenize", {"tokens": ["a"]}, "tokens"),
        ("/detokenize", {"tokens": [-1]}, "tokens"),
        ("/detokenize", {"tokens": [6144]}, "tokens"),
        ("/detokenize", {"tokens": [2**40]}, "tokens"),
    ],
)
def test_what_is_wrong_is_named(http, path, body, param):
    answer = http.post(path, json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_an_unknown_model_is_404(http):
    assert http.post("/tokenize", json={"model": "nothing", "content": "a"}).status_code == 404


def test_a_completions_suffix(client):
    prefix = 'def sort_list(words):\n    """Sort a list."""\n    '
    filled = client.completions.create(
        model="mlxr-demo", prompt=prefix, suffix="\n", temperature=0, max_tokens=50
    )
    assert filled.choices[0].text == "return sorted(words)"
