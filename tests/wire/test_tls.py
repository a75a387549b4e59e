"""TLS: unmodified clients that verify the certificate, and those that get no further."""

import contextlib
import json
import os
import socket
import ssl
import stat
import subprocess
import threading
import time

import anthropic
import grpc
import httpx
import ollama
import openai
import pytest
from grpc_client import GrpcClient, text_of
from running_daemon import (
    RunningDaemon,
    chat_body,
    clean_environment,
    endless,
    events_of,
    events_when_ended,
    program,
)

WHO = [{"role": "user", "content": "Who are you?"}]


def make_certificate(folder, name="box"):
    """A certificate that is its own authority, for this machine; openssl comes with curl's."""
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt"]
    command += ["ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
    command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command += ["-addext", "keyUsage=critical,digitalSignature,keyCertSign"]
    command += ["-out", str(cert), "-keyout", str(key)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    key.chmod(0o600)
    return cert, key


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def secure(files):
    cert, key = files
    with RunningDaemon("--tls-cert", cert, "--tls-key", key, "--grpc-port", "-1") as daemon:
        yield daemon
        assert daemon.process.poll() is None, daemon.text()


@pytest.fixture
def trusted(files, monkeypatch):
    """What OpenSSL's users read without being told: the clients stay as they are."""
    monkeypatch.setenv("SSL_CERT_FILE", str(files[0]))


def client_context(files):
    return ssl.create_default_context(cafile=str(files[0]))


def connect(daemon, files):
    plain = socket.create_connection(("127.0.0.1", daemon.port), timeout=20)
    return client_context(files).wrap_socket(plain, server_hostname="localhost")


def request(path, body=None, *headers):
    data = b"" if body is None else json.dumps(body).encode()
    lines = ["POST" if data else "GET", f" {path} HTTP/1.1\r\nHost: localhost\r\n"]
    lines += [f"{header}\r\n" for header in headers]
    return "".join([*lines, f"Content-Length: {len(data)}\r\n\r\n"]).encode() + data


def read_all(connection):
    """Until the server says goodbye: the end of a stream is told from a broken connection."""
    received = b""
    while part := connection.recv(65536):
        received += part
    return received


def test_the_daemon_says_that_it_speaks_tls(secure):
    assert secure.address["tls"] is True
    secure.wait_for_log("mlxrunnerd ready")
    assert f"mlxrunnerd ready on https://127.0.0.1:{secure.port}" in secure.text()
    assert secure.url.startswith("https://")


@pytest.mark.usefixtures("trusted")
def test_unmodified_clients_verify_and_get_the_same_answers(secure):
    with secure.unix_client() as unix:
        plain = unix.post("/v1/chat/completions", json=chat_body("Who are you?")).json()
    wanted = plain["choices"][0]["message"]["content"]

    base = f"https://localhost:{secure.port}"
    with openai.OpenAI(base_url=base + "/v1", api_key="none", max_retries=0) as client:
        made = client.chat.completions.create(model="mlxr-demo", messages=WHO, temperature=0)
        assert made.choices[0].message.content == wanted
        stream = client.chat.completions.create(
            model="mlxr-demo", messages=WHO, temperature=0, stream=True
        )
        assert "".join(c.choices[0].delta.content or "" for c in stream) == wanted
    with anthropic.Anthropic(base_url=base, api_key="none", max_retries=0) as client:
        said = client.messages.create(
            model="mlxr-demo", messages=WHO, max_tokens=100, extra_body={"temperature": 0}
        )
        assert said.content[0].text == wanted
    chunks = ollama.Client(host=base).chat(
        "mlxr-demo", WHO, options={"temperature": 0}, stream=True
    )
    assert "".join(c.message.content for c in chunks) == wanted


def test_who_does_not_know_the_certificate_does_not_connect(secure):
    with (
        openai.OpenAI(base_url=secure.url + "/v1", api_key="none", max_retries=0) as client,
        pytest.raises(openai.APIConnectionError),
    ):
        client.models.list()


def test_plain_http_is_told_to_use_https(secure):
    answer = httpx.get(f"http://127.0.0.1:{secure.port}/health")
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "tls_required"
    assert "https://" in answer.json()["error"]["message"]
    # What is neither is let go.
    with socket.create_connection(("127.0.0.1", secure.port), timeout=20) as rude:
        rude.sendall(b"\x00" * 100)
        with contextlib.suppress(ConnectionResetError):
            assert b"HTTP" not in rude.recv(1000)
    with secure.unix_client() as unix:
        assert unix.get("/health").json()["status"] == "ok"


@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1"])
def test_old_versions_are_refused(secure, version):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    with (
        socket.create_connection(("127.0.0.1", secure.port), timeout=20) as plain,
        # The server's word for it: the client would have gone on.
        pytest.raises(ssl.SSLError, match="(?i)alert.protocol.version"),
    ):
        context.wrap_socket(plain)


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_new_versions_are_spoken(secure, files, version):
    context = client_context(files)
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    with httpx.Client(base_url=secure.url, verify=context) as client:
        assert client.get("/health").json()["status"] == "ok"


def test_pipelined_requests_and_a_proper_goodbye(secure, files):
    stream = chat_body("Who are you?", stream=True, max_tokens=8)
    many = request("/v1/chat/completions", stream) + request("/v1/nothing")
    many += request("/health", None, "Connection: close")
    with connect(secure, files) as connection:
        connection.sendall(many)
        received = read_all(connection)
    assert received.count(b"HTTP/1.1 200 OK") == 2
    assert received.index(b"data: [DONE]") < received.index(b"HTTP/1.1 404")
    assert received.index(b"HTTP/1.1 404") < received.index(b'"status":"ok"')


def test_one_connection_serves_many_requests(secure, files):
    with httpx.Client(base_url=secure.url, verify=client_context(files), timeout=60) as client:
        ids = set()
        for i in range(20):
            if i % 5 == 0:
                body = chat_body("Who are you?", max_tokens=3)
                assert client.post("/v1/chat/completions", json=body).status_code == 200
            ids.add(client.get("/health").headers["x-request-id"])
        assert len(ids) == 20
        big = {"prompt": "x" * 200_000, "max_tokens": 1}
        assert client.post("/v1/completions", json=big).status_code == 400  # context, not transport
        assert len(client.get("/openapi.json", headers={"Accept-Encoding": "identity"}).text) > 9000


def test_streams_at_once(secure, files):
    texts, context = [], client_context(files)

    def ask():
        body = chat_body("Who are you?", stream=True)
        with (
            httpx.Client(base_url=secure.url, verify=context, timeout=120) as client,
            client.stream("POST", "/v1/chat/completions", json=body) as answer,
        ):
            pieces = [e for e in events_of(answer) if e != "[DONE]"]
        texts.append("".join(p["choices"][0]["delta"].get("content") or "" for p in pieces))

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(texts) == 12
    assert set(texts) == {texts[0]}
    assert texts[0]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("polite", [True, False])
def test_closing_cancels(start, files, stream, polite):
    daemon = start("--threads", "1", "--tls-cert", files[0], "--tls-key", files[1])
    with daemon.unix_client() as unix:
        unix.post("/v1/completions", json={"prompt": "a", "max_tokens": 1})

        def running():
            return sum(m["running"] for m in unix.get("/mlxr/v1/ps").json()["models"])

        connection = connect(daemon, files)
        connection.sendall(request("/v1/completions", endless(stream=stream, n=8)))
        deadline = time.monotonic() + 20
        while not running():
            assert time.monotonic() < deadline
        if polite:
            connection.setblocking(False)
            with contextlib.suppress(ssl.SSLError, OSError):
                connection.unwrap()  # close_notify, and the TCP connection stays open
        else:
            connection.close()
        deadline = time.monotonic() + 20
        while running():
            assert time.monotonic() < deadline, "the client is gone and its work goes on"
        connection.close()


def test_half_open_handshakes_hold_nobody_up(secure, files):
    """Silent clients, and those in the middle of it, while others are served."""
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
    with contextlib.ExitStack() as stack:
        for i in range(100):
            one = socket.create_connection(("127.0.0.1", secure.port), timeout=20)
            stack.enter_context(one)
            one.sendall(hello[: i % len(hello)])
        with httpx.Client(base_url=secure.url, verify=client_context(files)) as client:
            assert client.get("/health").status_code == 200
    folder = f"/proc/{secure.process.pid}/fd"
    if os.path.isdir(folder):  # they leave nothing behind
        deadline = time.monotonic() + 10
        while len(os.listdir(folder)) > 60 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(os.listdir(folder)) <= 60


def test_the_unix_socket_stays_plain(secure):
    with secure.unix_client() as unix:
        assert unix.get("/health").json()["status"] == "ok"
    with GrpcClient(f"unix:{secure.address['grpc_socket']}") as rpc:
        assert rpc.call("Models/ListModels").models


def test_grpc_over_tls(secure, files):
    target = f"localhost:{secure.address['grpc_port']}"
    credentials = grpc.ssl_channel_credentials(files[0].read_bytes())
    with GrpcClient(target, credentials=credentials) as rpc:
        assert text_of(rpc.chat("Who are you?"))
    with GrpcClient(target) as rpc, pytest.raises(Exception, match="UNAVAILABLE|unavailable"):
        rpc.call("Models/ListModels", timeout=10)


def mlx(daemon, *arguments, **environment):
    return subprocess.run(
        [str(program().parent / "mlx"), *map(str, arguments)],
        env={**clean_environment(daemon.home / "client"), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_command_line_reaches_a_daemon_by_its_url(start, files):
    cert, key = files
    daemon = start("--tls-cert", cert, "--tls-key", key, "--require-api-key", "true")
    url, ca = f"https://localhost:{daemon.port}/", ("--ca", cert)
    refused = mlx(daemon, "--url", url, *ca, "list")
    assert refused.returncode == 1
    assert "API key" in refused.stderr

    made = mlx(daemon, "key", "create", "laptop", MLXR_HOME=str(daemon.home)).stdout.strip()
    listed = mlx(daemon, "--url", url, *ca, "list", MLXR_API_KEY=made)
    assert "mlxr-demo" in listed.stdout, listed.stderr
    environment = {"MLXR_URL": url, "MLXR_CA": str(cert), "MLXR_API_KEY": made}
    said = mlx(daemon, "run", "mlxr-demo", "Who are you?", "--temperature", "0", **environment)
    with daemon.unix_client() as unix:
        answer = unix.post("/v1/chat/completions", json=chat_body("Who are you?")).json()
    assert said.stdout.strip() == answer["choices"][0]["message"]["content"], said.stderr

    untrusted = mlx(daemon, "--url", url, "list", MLXR_API_KEY=made)
    assert untrusted.returncode == 1
    assert "--ca" in untrusted.stderr
    assert "http://" in mlx(daemon, "--url", "box", "list").stderr
    gone = mlx(daemon, "--url", "http://127.0.0.1:1", "list")
    assert "no daemon answers on http://127.0.0.1:1" in gone.stderr
    # None was started here meanwhile.
    assert not (daemon.home / "client/mlxr.sock").exists()


def test_running_answers_end_when_the_daemon_does(start, files):
    daemon = start("--threads", "1", "--tls-cert", files[0], "--tls-key", files[1])
    with httpx.Client(base_url=daemon.url, verify=client_context(files), timeout=60) as client:
        events = events_when_ended(client, 200, daemon.process.terminate)
    assert events[-1] == "[DONE]"
    assert daemon.process.wait(20) == 0


def fails(tmp_path, *arguments):
    done = subprocess.run(
        [str(program()), "--port", "0", *map(str, arguments)],
        env=clean_environment(tmp_path / "home"),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode in (1, 2), done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    return done.stderr


def test_what_is_wrong_is_said_at_start(tmp_path, files):
    cert, key = files
    assert "tls_key is not" in fails(tmp_path, "--tls-cert", cert)
    assert "tls_cert is not" in fails(tmp_path, "--tls-key", key)
    missing = tmp_path / "none.pem"
    said = fails(tmp_path, "--tls-cert", missing, "--tls-key", key)
    assert f"tls_cert: there is no file {missing}" in said
    said = fails(tmp_path, "--tls-cert", cert, "--tls-key", missing)
    assert f"tls_key: there is no file {missing}" in said

    _, other = make_certificate(tmp_path, "other")
    said = fails(tmp_path, "--tls-cert", cert, "--tls-key", other)
    assert "does not belong to the certificate" in said
    assert str(other) in said

    other.chmod(0o644)
    assert stat.S_IMODE(other.stat().st_mode) == 0o644
    said = fails(tmp_path, "--tls-cert", cert, "--tls-key", other)
    assert f"chmod 600 {other}" in said

    nonsense = tmp_path / "nonsense"
    nonsense.write_text("hello")
    nonsense.chmod(0o600)
    assert "not a certificate" in fails(tmp_path, "--tls-cert", nonsense, "--tls-key", key)
    assert "not a private key" in fails(tmp_path, "--tls-cert", cert, "--tls-key", nonsense)

    locked = tmp_path / "locked.key"
    command = ["openssl", "ec", "-in", key, "-aes256", "-passout", "pass:secret", "-out", locked]
    subprocess.run([str(word) for word in command], check=True, capture_output=True, timeout=60)
    locked.chmod(0o600)
    assert "without a passphrase" in fails(tmp_path, "--tls-cert", cert, "--tls-key", locked)
