"""API keys on the wire: who is let in, in each API's own words, with the unmodified clients."""

import json
import socket
import stat
import subprocess
import time

import anthropic
import ollama
import openai
import pytest
from running_daemon import RunningDaemon, chat_body, clean_environment, endless, program

MODEL = "mlxr-demo"
WHO = [{"role": "user", "content": "Who are you?"}]
UNKNOWN = "mlxr-" + "0" * 64
CHAT = "/v1/chat/completions"
LONG = " ".join(f"word{i}" for i in range(120))


def mlx_key(home, *arguments):
    command = [program().parent / "mlx", "key", *arguments]
    done = subprocess.run(
        command, env=clean_environment(home), capture_output=True, text=True, timeout=30, check=True
    )
    return done.stdout.strip()


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture(scope="module")
def guarded():
    """A daemon that asks everyone for a key; `inference`, `other` and `admin` are keys of it."""
    with RunningDaemon("--require-api-key", "true") as daemon:
        daemon.inference = mlx_key(daemon.home, "create", "inference")
        daemon.other = mlx_key(daemon.home, "create", "other")
        daemon.admin = mlx_key(daemon.home, "create", "admin", "--admin")
        yield daemon
        assert daemon.process.poll() is None, daemon.text()


@pytest.fixture
def http(guarded):
    with guarded.client() as client:
        yield client


ROUTES = [
    ("GET", "/v1/models"),
    ("GET", "/v1/models/mlxr-demo"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"),
    ("GET", "/api/version"),
    ("GET", "/api/tags"),
    ("GET", "/api/ps"),
    ("POST", "/api/show"),
    ("POST", "/api/chat"),
    ("POST", "/api/generate"),
    ("POST", "/api/pull"),
    ("DELETE", "/api/delete"),
    ("HEAD", "/api/blobs/sha256:0"),
    ("POST", "/v1/messages"),
    ("POST", "/v1/messages/count_tokens"),
    ("POST", "/tokenize"),
    ("POST", "/detokenize"),
    ("GET", "/mlxr/v1/models"),
    ("GET", "/mlxr/v1/models/mlxr-demo"),
    ("GET", "/mlxr/v1/ps"),
    ("GET", "/mlxr/v1/trace"),
    ("POST", "/mlxr/v1/load"),
    ("POST", "/mlxr/v1/unload"),
    ("POST", "/mlxr/v1/shutdown"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_route_asks_for_a_key(http, method, path):
    for headers in ({}, bearer("none"), bearer(UNKNOWN), {"x-api-key": UNKNOWN}):
        answer = http.request(method, path, headers=headers, content=b"not even json")
        assert answer.status_code == 401, path
        assert answer.headers["www-authenticate"] == "Bearer"


def test_probes_need_no_key(http):
    assert http.get("/health").status_code == 200
    assert http.get("/").text == "Ollama is running"


def test_openais_shape(http, guarded):
    missing = http.post(CHAT, json=chat_body("hi")).json()["error"]
    assert (missing["code"], missing["param"]) == ("missing_api_key", None)
    assert "mlx key create" in missing["message"]
    unknown = http.post(CHAT, json=chat_body("hi"), headers=bearer(UNKNOWN)).json()["error"]
    assert unknown["code"] == "invalid_api_key"
    assert http.get("/mlxr/v1/trace", headers=bearer(guarded.inference)).status_code == 403
    refused = http.post("/mlxr/v1/unload", json={"name": MODEL}, headers=bearer(guarded.inference))
    assert refused.status_code == 403
    assert refused.json()["error"]["code"] == "insufficient_scope"
    assert "admin" in refused.json()["error"]["message"]


def test_ollamas_shape(http, guarded):
    body = {"model": MODEL, "messages": WHO}
    answer = http.post("/api/chat", json=body)
    assert answer.status_code == 401
    assert set(answer.json()) == {"error"}
    refused = http.post("/api/pull", json=body, headers=bearer(guarded.inference))
    assert refused.status_code == 403
    assert "admin" in refused.json()["error"]


def test_anthropics_shape(http):
    answer = http.post("/v1/messages", json={})
    assert answer.status_code == 401
    assert answer.json()["type"] == "error"
    assert answer.json()["error"]["type"] == "authentication_error"


def test_openai_client(guarded):
    options = {"base_url": guarded.url + "/v1", "max_retries": 0}
    with openai.OpenAI(api_key=guarded.inference, **options) as client:
        answer = client.chat.completions.create(model=MODEL, messages=WHO, temperature=0)
        assert "mlxr-demo" in answer.choices[0].message.content
    with openai.OpenAI(api_key="none", **options) as client:
        with pytest.raises(openai.AuthenticationError) as caught:
            client.chat.completions.create(model=MODEL, messages=WHO)
        assert caught.value.code == "invalid_api_key"


def test_ollama_client(guarded):
    client = ollama.Client(host=guarded.url, headers=bearer(guarded.inference))
    assert "mlxr-demo" in client.chat(MODEL, WHO, options={"temperature": 0}).message.content
    with pytest.raises(ollama.ResponseError) as caught:
        ollama.Client(host=guarded.url).chat(MODEL, WHO)
    assert caught.value.status_code == 401


@pytest.mark.parametrize("argument", ["api_key", "auth_token"])
def test_anthropic_client(guarded, argument):
    def ask(key):
        options = {"base_url": guarded.url, "max_retries": 0, argument: key}
        with anthropic.Anthropic(**options) as client:
            return client.messages.create(model=MODEL, max_tokens=50, messages=WHO)

    assert ask(guarded.inference).content[0].text
    with pytest.raises(anthropic.AuthenticationError):
        ask(UNKNOWN)


def test_a_key_made_or_revoked_meanwhile_counts_at_once(guarded, http):
    key = mlx_key(guarded.home, "create", "short-lived")
    assert http.get("/v1/models", headers=bearer(key)).status_code == 200
    mlx_key(guarded.home, "rm", "short-lived")
    assert http.get("/v1/models", headers=bearer(key)).status_code == 401


def test_two_keys_share_no_cached_prefix(http, guarded):
    def cached(key, **fields):
        body = {"prompt": LONG, "max_tokens": 1, "temperature": 0, **fields}
        answer = http.post("/v1/completions", json=body, headers=bearer(key))
        assert answer.status_code == 200, answer.text
        return answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"]

    assert cached(guarded.inference) == 0
    assert cached(guarded.inference) > 0
    assert cached(guarded.other) == 0
    assert cached(guarded.other) > 0
    assert cached(guarded.inference, cache_salt="mine") == 0
    assert cached(guarded.inference, cache_salt="mine") > 0
    assert cached(guarded.other, cache_salt="mine") == 0


def test_who_may_not_unload_a_model_cannot_say_how_long_it_stays(guarded):
    plain = ollama.Client(host=guarded.url, headers=bearer(guarded.inference))
    plain.chat(MODEL, WHO, keep_alive="1ms", options={"num_predict": 1})
    time.sleep(0.5)
    assert [m.model for m in plain.ps().models] == [MODEL + ":latest"]
    with pytest.raises(ollama.ResponseError) as caught:
        plain.generate(MODEL, keep_alive=0)
    assert caught.value.status_code == 403
    admin = ollama.Client(host=guarded.url, headers=bearer(guarded.admin))
    assert admin.generate(MODEL, keep_alive=0).done_reason == "unload"
    assert admin.ps().models == []


def test_a_refused_body_is_not_read(guarded):
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n"
    for extra in ("", "Expect: 100-continue\r\n"):
        with socket.create_connection(("127.0.0.1", guarded.port), timeout=10) as connection:
            connection.sendall((head + extra + "\r\n").encode())
            answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 401 ")
        assert b"Connection: close" in answer


def test_the_unix_socket_needs_no_key(guarded):
    with guarded.unix_client() as client:
        assert client.get("/v1/models").status_code == 200
        assert client.get("/v1/models", headers=bearer(UNKNOWN)).status_code == 401


def test_the_log_names_the_key_but_not_its_secret(guarded, http):
    http.get("/v1/models", headers=bearer(guarded.inference))
    made = json.loads(mlx_key(guarded.home, "ls", "--json"))["keys"]
    (key,) = [k for k in made if k["name"] == "inference"]
    time.sleep(0.1)
    assert f"key={key['id']}" in guarded.text()
    assert guarded.inference not in guarded.text()
    assert stat.S_IMODE((guarded.home / "keys.json").stat().st_mode) == 0o600


def test_on_loopback_a_dummy_is_no_key_but_a_revoked_key_is_refused(daemon):
    with daemon.client() as client:
        assert client.get("/v1/models", headers=bearer("none")).status_code == 200
        assert client.get("/v1/models", headers=bearer(UNKNOWN)).status_code == 401


def test_off_loopback_without_a_key_is_refused(tmp_path):
    done = subprocess.run(
        [program(), "--host", "0.0.0.0", "--port", "0"],
        env=clean_environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert "mlx key create" in done.stderr
    assert done.stderr.count("\n") == 1


def test_off_loopback_with_a_key(start, tmp_path):
    key = mlx_key(tmp_path, "create")
    daemon = start("--host", "0.0.0.0", "--allowed-hosts", "box.example", home=tmp_path)
    with daemon.client() as client:
        assert client.get("/v1/models").status_code == 401
        for host in ("box.example:80", "192.168.1.7", "localhost"):
            answer = client.get("/v1/models", headers={"Host": host, **bearer(key)})
            assert answer.status_code == 200, host
        evil = client.get("/v1/models", headers={"Host": "evil.test", **bearer(key)})
        assert evil.status_code == 403
        assert evil.json()["error"]["code"] == "forbidden_host"


def test_a_request_beyond_its_timeout_is_504(http, guarded):
    answer = http.post(
        "/v1/completions", json=endless(timeout=0.05), headers=bearer(guarded.inference)
    )
    assert answer.status_code == 504
    assert answer.json()["error"]["code"] == "timeout"
    body = {"model": MODEL, "messages": WHO, "timeout": 0.001}
    late = http.post("/api/chat", json=body | {"stream": False}, headers=bearer(guarded.inference))
    assert late.status_code == 504
    late = http.post(
        "/v1/messages", json=body | {"max_tokens": 50}, headers=bearer(guarded.inference)
    )
    assert late.status_code == 504
    assert late.json()["error"]["type"] == "timeout_error"


def test_the_settings_timeout_holds_for_everyone(start):
    daemon = start("--request-timeout-s", "1", "--context-length", "2048", "--threads", "1")
    with daemon.client() as client:
        began = time.monotonic()
        body = endless(timeout=600, n=8, max_tokens=2000)
        answer = client.post("/v1/completions", json=body)
        assert answer.status_code == 504
        assert time.monotonic() - began < 10
