"""Limits of one key: requests and tokens a minute, requests at the same time."""

import openai
import pytest
from running_daemon import chat_body, endless
from test_keys import bearer, mlx_key

COMPLETIONS = "/v1/completions"
SHORT = {"prompt": "Once", "max_tokens": 1}


def refusal(answer):
    assert answer.status_code == 429, answer.text
    error = answer.json()["error"]
    assert error["code"] == "rate_limit_exceeded"
    assert int(answer.headers["retry-after"]) >= 1
    return error["message"]


def test_requests_per_minute_are_each_keys_own(start, tmp_path):
    keys = [mlx_key(tmp_path, "create") for _ in range(2)]
    daemon = start("--requests-per-minute", "3", home=tmp_path)
    with daemon.client() as client:
        for key in keys:
            statuses = [
                client.post(COMPLETIONS, json=SHORT, headers=bearer(key)).status_code
                for _ in range(4)
            ]
            assert statuses == [200, 200, 200, 429]
        answer = client.post(COMPLETIONS, json=SHORT, headers=bearer(keys[0]))
        assert "requests_per_minute" in refusal(answer)
        assert client.get("/v1/models", headers=bearer(keys[0])).status_code == 200
        assert client.post(COMPLETIONS, json=SHORT).status_code == 200
        shapes = {
            "/api/chat": lambda body: isinstance(body["error"], str),
            "/v1/messages": lambda body: body["error"]["type"] == "rate_limit_error",
        }
        for path, is_right in shapes.items():
            answer = client.post(path, json={}, headers=bearer(keys[0]))
            assert answer.status_code == 429
            assert is_right(answer.json())
    with (
        openai.OpenAI(base_url=daemon.url + "/v1", api_key=keys[0], max_retries=0) as client,
        pytest.raises(openai.RateLimitError),
    ):
        client.chat.completions.create(model="mlxr-demo", **chat_body("hi"))


@pytest.mark.parametrize("stream", [False, True])
def test_tokens_per_minute(start, stream):
    with start("--tokens-per-minute", "20").client() as client:
        body = {"prompt": "Once upon a time", "max_tokens": 30, "ignore_eos": True}
        assert client.post(COMPLETIONS, json=body | {"stream": stream}).status_code == 200
        assert "tokens_per_minute" in refusal(client.post(COMPLETIONS, json=SHORT))


def test_concurrent_requests_end_with_their_clients(start):
    daemon = start("--concurrent-requests", "1")
    with daemon.client() as client:
        with client.stream("POST", COMPLETIONS, json=endless(stream=True)) as answer:
            assert answer.status_code == 200
            assert "concurrent_requests" in refusal(client.post(COMPLETIONS, json=SHORT))
        daemon.wait_until_quiet()
        assert client.post(COMPLETIONS, json=SHORT).status_code == 200
        assert client.post(COMPLETIONS, json={"prompt": 3}).status_code == 400
        assert client.post(COMPLETIONS, json=SHORT).status_code == 200
