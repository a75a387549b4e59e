"""Every wrong request has its status and OpenAI's error shape, and harms nobody."""

import json

import pytest
from running_daemon import chat_body

CHAT = "/v1/chat/completions"


def error_of(answer, status):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    return error


@pytest.mark.parametrize("path", ["/v1/nothing", "/v1", "/v1/chat", "/mlxr/v1/x"])
def test_unknown_path_is_404(http, path):
    assert error_of(http.get(path), 404)["code"] == "unknown_url"
    assert error_of(http.post(path, content="not json"), 404)["code"] == "unknown_url"


def test_wrong_method_is_405_with_allow(http):
    answer = http.get(CHAT)
    assert error_of(answer, 405)["code"] == "method_not_allowed"
    assert answer.headers["allow"] == "POST"
    assert http.delete("/v1/models").headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", ["/api/chat", "/api/version", "/v1/messages", CHAT])
def test_a_wrong_method_has_the_shape_of_its_api(http, path):
    answer = http.delete(path)
    assert answer.status_code == 405
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["allow"]
    body = answer.json()
    if path.startswith("/api/"):
        assert isinstance(body.pop("error"), str)
        assert body == {}
    elif path == "/v1/messages":
        assert body["type"] == "error"
        assert body["error"]["type"] == "invalid_request_error"
        assert body["request_id"] == answer.headers["request-id"]
    else:
        error_of(answer, 405)


def test_malformed_json_says_where(http):
    error = error_of(http.post(CHAT, content='{"model": "mlxr-demo",\n "messages": [}'), 400)
    assert error["code"] == "invalid_json"
    assert "line 2, column 15" in error["message"]


@pytest.mark.parametrize("body", [b"", b"[]", b"3", b"\xff\xfe", b'{"a":"\xff"}', b"[" * 100000])
def test_bodies_that_are_no_json_object(http, body):
    error_of(http.post(CHAT, content=body), 400)


def test_bad_body_comes_before_the_model(http):
    body = chat_body("hi", model="no-such-model", temperature="hot")
    assert error_of(http.post(CHAT, json=body), 400)["param"] == "temperature"


def test_unknown_model_names_the_nearest(http):
    error = error_of(http.post(CHAT, json=chat_body("hi", model="mlxr-dmo")), 404)
    assert (error["code"], error["param"]) == ("model_not_found", "model")
    assert "mlxr-demo" in error["message"]
    error_of(http.get("/v1/models/nothing-like-it"), 404)
    error_of(http.post("/v1/completions", json={"prompt": "a", "model": "../../etc/passwd"}), 404)
    error_of(http.post("/v1/completions", json={"prompt": "a", "model": "/etc/passwd"}), 404)


def test_missing_model_is_the_default_one(http):
    answer = http.post(CHAT, json=chat_body("Who are you?")).json()
    assert answer["model"] == "mlxr-demo"


@pytest.mark.parametrize("stream", [False, True])
def test_prompt_longer_than_the_context_names_both_numbers(http, stream):
    error = error_of(http.post(CHAT, json=chat_body("word " * 5000, stream=stream)), 400)
    assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")
    assert "2048" in error["message"]
    numbers = [int(w) for w in error["message"].split() if w.isdigit()]
    assert max(numbers) > 5000

    ids = [300] * 2049
    error = error_of(http.post("/v1/completions", json={"prompt": ids, "stream": stream}), 400)
    assert (error["code"], error["param"]) == ("context_length_exceeded", "prompt")
    assert "2049" in error["message"]
    assert "2048" in error["message"]


def test_prompt_that_just_fits_is_answered(http):
    answer = http.post("/v1/completions", json={"prompt": [300] * 2047, "temperature": 0})
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["completion_tokens"] == 1


def test_token_ids_outside_the_vocabulary(http):
    assert error_of(http.post("/v1/completions", json={"prompt": [6144]}), 400)["param"] == "prompt"
    body = chat_body("hi", logit_bias={"6144": 1})
    assert error_of(http.post(CHAT, json=body), 400)["param"] == "logit_bias"


def test_unsupported_fields_are_named(http):
    for field in (
        {"audio": {"voice": "x"}},
        {"functions": [{"name": "f"}]},
    ):
        error = error_of(http.post(CHAT, json=chat_body("hi", **field)), 400)
        assert error["param"] == next(iter(field))
        assert error["code"] == "unsupported_parameter"
    body = {"prompt": "a", "echo": True, "logprobs": 1, "suffix": "b"}
    assert error_of(http.post("/v1/completions", json=body), 400)["param"] == "echo"


def test_harmless_unknown_fields_are_ignored(http):
    body = chat_body("Who are you?", user="me", metadata={"a": "b"}, store=True, x_unknown=1)
    assert http.post(CHAT, json=body | {"max_tokens": 3}).status_code == 200


def test_template_refusals_are_bad_requests(start, tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "mlxr-demo.yaml").write_text(
        "chat_template: \"{{ raise_exception('only haiku please') }}\"\n"
    )
    config = tmp_path / "server.yaml"
    config.write_text("log_level: info\n")
    with start("--config", config).client() as client:
        error = error_of(client.post(CHAT, json=chat_body("hi")), 400)
    assert "only haiku please" in error["message"]


def test_body_too_large_is_413(start):
    with start("--max-body-bytes", "2048").client() as client:
        body = json.dumps(chat_body("x" * 5000)).encode()
        error = error_of(client.post(CHAT, content=body), 413)
        assert "2048" in error["message"]
        assert "max_body_bytes" in error["message"]
        chunked = client.post(CHAT, content=iter([body[:3000], body[3000:]]))
        error_of(chunked, 413)
        assert client.get("/health").status_code == 200


def test_full_queue_is_429(start):
    daemon = start("--threads", "1", "--max-sequences", "1", "--max-queue", "1")
    with daemon.client() as client:
        client.post("/v1/completions", json={"prompt": "a", "max_tokens": 1})
        # Shifting, it goes on for longer than the slowest machine needs here.
        body = {"prompt": "Once", "ignore_eos": True, "stream": True, "context_shift": True}
        body["max_tokens"] = 1_000_000
        with client.stream("POST", "/v1/completions", json=body):
            daemon.wait_until_running()
            with client.stream("POST", "/v1/completions", json=body) as waiting:
                assert waiting.status_code == 200
                answer = client.post("/v1/completions", json={"prompt": "a"})
    assert error_of(answer, 429)["code"] == "queue_full"
    assert answer.headers["retry-after"]
