"""Pages of other sites: who may ask, what browsers are told before and after."""

import pytest
from running_daemon import RunningDaemon, chat_body

CHAT = "/v1/chat/completions"
APP = "https://app.example"
PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type",
}


@pytest.fixture(scope="module")
def open_daemon():
    origins = f"{APP},http://b.example:81"
    with RunningDaemon("--require-api-key", "true", "--allowed-origins", origins) as daemon:
        yield daemon


@pytest.fixture
def http(open_daemon):
    with open_daemon.client() as client:
        yield client


@pytest.mark.parametrize("origin", [APP, "http://b.example:81", "http://localhost:3000"])
def test_a_preflight_needs_no_key(http, origin):
    answer = http.options(CHAT, headers={"Origin": origin, **PREFLIGHT})
    assert answer.status_code == 200
    assert answer.content == b""
    assert answer.headers["access-control-allow-origin"] == origin
    assert answer.headers["access-control-allow-methods"] == "POST, OPTIONS"
    assert answer.headers["access-control-allow-headers"] == "authorization,content-type"
    assert answer.headers["vary"] == "Origin"


def test_pages_can_read_refusals_too(http):
    answer = http.post(CHAT, json=chat_body("hi"), headers={"Origin": APP})
    assert answer.status_code == 401
    assert answer.headers["access-control-allow-origin"] == APP


def test_other_pages_are_told_nothing(http):
    for origin in ("https://evil.test", "null", "http://app.example"):
        for answer in (
            http.options(CHAT, headers={"Origin": origin, **PREFLIGHT}),
            http.get("/health", headers={"Origin": origin}),
        ):
            assert answer.status_code == 403
            assert "access-control-allow-origin" not in answer.headers


def test_streams_carry_the_header(daemon):
    origin = "http://localhost:3000"
    body = chat_body("Who are you?", stream=True, max_tokens=2)
    with (
        daemon.client() as client,
        client.stream("POST", CHAT, json=body, headers={"Origin": origin}) as answer,
    ):
        assert answer.headers["access-control-allow-origin"] == origin


def test_without_an_origin_nothing_is_added(http):
    answer = http.get("/health")
    assert "access-control-allow-origin" not in answer.headers
    options = http.options("/v1/models")
    assert options.status_code == 200
    assert options.headers["allow"] == "GET, HEAD, OPTIONS"
    assert http.options("/v1/nothing").status_code == 404
