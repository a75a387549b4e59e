"""Starting and ending: sockets, addresses, signals, two daemons at once, a killed one."""

import json
import os
import signal
import socket
import stat
import subprocess
import threading
import time

import pytest
from running_daemon import (
    MODELS,
    RunningDaemon,
    clean_environment,
    endless,
    events_of,
    events_when_ended,
    program,
)


def run(home, *arguments, environment=None, seconds=30):
    return subprocess.run(
        [str(program()), *map(str, arguments)],
        env={**clean_environment(home), **(environment or {})},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def test_address_file_socket_and_modes(start):
    daemon = start()
    said = json.loads((daemon.home / "daemon.json").read_text())
    assert said["pid"] == daemon.process.pid
    assert said["port"] == daemon.port
    assert said["socket"] == str(daemon.socket)
    mode = daemon.socket.stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    assert daemon.terminate() == 0
    assert f"mlxrunnerd ready on http://127.0.0.1:{daemon.port} and unix:{daemon.socket}" in (
        daemon.text()
    )
    assert not (daemon.home / "daemon.json").exists()
    assert not daemon.socket.exists()


def test_home_is_made_private(tmp_path):
    home = tmp_path / "a" / "home"
    with RunningDaemon(home=tmp_path, environment={"MLXR_HOME": str(home)}, wait=False) as daemon:
        deadline = time.monotonic() + 20
        while not (home / "daemon.json").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
        assert daemon.terminate() == 0


def test_unix_socket_serves_the_same_api(daemon):
    with daemon.unix_client() as client:
        assert client.get("/health").json()["status"] == "ok"
        answer = client.post(
            "/v1/chat/completions",
            json={"messages": [{"role": "user", "content": "Who are you?"}], "temperature": 0},
        )
        assert "mlxr-demo" in answer.json()["choices"][0]["message"]["content"]
        # No host check there: only the socket's owner can open it.
        assert client.get("/health", headers={"Host": "anything.test"}).status_code == 200


def test_stale_socket_is_replaced(start, tmp_path):
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    assert path.exists()
    daemon = start("--socket", path)
    assert daemon.terminate() == 0


def test_killed_daemon_is_replaced(start):
    first = start()
    first.process.kill()
    first.process.wait()
    assert first.socket.exists()
    second = start(home=first.home)
    with second.unix_client() as client:
        assert client.get("/health").json()["pid"] == second.process.pid


def test_second_daemon_of_one_home_is_refused(daemon):
    answer = run(daemon.home, "--port", "0")
    assert answer.returncode == 1
    assert str(daemon.socket) in answer.stderr
    assert "already serves" in answer.stderr
    with daemon.unix_client() as client:
        assert client.get("/health").status_code == 200


def test_of_two_started_at_once_one_wins(tmp_path):
    pair = [RunningDaemon(home=tmp_path, wait=False) for _ in range(2)]
    deadline = time.monotonic() + 20
    while all(d.process.poll() is None for d in pair) and time.monotonic() < deadline:
        time.sleep(0.02)
    losers = [d for d in pair if d.process.poll() is not None]
    assert [d.process.returncode for d in losers] == [1]
    winner = next(d for d in pair if d not in losers)
    winner.wait_until_ready()
    with winner.unix_client() as client:
        assert client.get("/health").json()["pid"] == winner.process.pid
    assert winner.terminate() == 0


def test_file_in_the_sockets_place_is_left_alone(tmp_path):
    path = tmp_path / "precious"
    path.write_text("data")
    answer = run(tmp_path, "--port", "0", "--socket", path)
    assert answer.returncode == 1
    assert "is not a socket" in answer.stderr
    assert path.read_text() == "data"


def test_port_in_use(daemon, tmp_path, start):
    answer = run(tmp_path, "--port", daemon.port)
    assert answer.returncode == 1
    assert f"{daemon.port} is in use" in answer.stderr
    assert "--port" in answer.stderr


def test_socket_path_too_long(tmp_path):
    answer = run(tmp_path, "--port", "0", "--socket", tmp_path / ("x" * 200))
    assert answer.returncode == 2
    assert "--socket" in answer.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_lets_a_stream_finish(start, number):
    daemon = start("--threads", "1")
    with daemon.client() as client:
        events = events_when_ended(client, 300, lambda: daemon.process.send_signal(number))
    assert events[-1] == "[DONE]"
    assert events[-2]["choices"][0]["finish_reason"] == "length"
    assert daemon.process.wait(20) == 0


def test_signal_cancels_after_the_timeout(start):
    daemon = start("--threads", "1", "--shutdown-timeout-s", "0", "--context-length", "2000")
    with daemon.client() as client:
        began = 0.0
        events = []
        with client.stream("POST", "/v1/completions", json=endless(stream=True, n=16)) as answer:
            for event in events_of(answer):
                if not events:
                    daemon.process.send_signal(signal.SIGTERM)
                    began = time.monotonic()
                events.append(event)
        assert events[-1]["error"]["code"] == "cancelled"
    assert daemon.process.wait(20) == 0
    assert time.monotonic() - began < 6


def test_whole_answers_are_finished_or_refused_at_shutdown(start):
    daemon = start("--threads", "1")
    results = []

    def ask():
        with daemon.client() as client:
            results.append(client.post("/v1/completions", json=endless(max_tokens=600)).status_code)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    daemon.wait_until_running(4)
    assert daemon.terminate() == 0
    for thread in threads:
        thread.join(10)
    assert results == [200] * 4


def test_new_connections_are_refused_while_draining(start):
    daemon = start("--threads", "1")
    with (
        daemon.client() as client,
        client.stream("POST", "/v1/completions", json=endless(stream=True, n=4)) as answer,
    ):
        events = events_of(answer)  # held: dropping it would close the connection
        next(events)
        daemon.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 5
        refused = False
        while not refused and time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", daemon.port), timeout=1).close()
                time.sleep(0.01)
            except ConnectionError:
                refused = True
        assert refused
        daemon.process.send_signal(signal.SIGTERM)  # the second one ends it at once
        assert daemon.process.wait(5) == 130


@pytest.mark.parametrize("reads", [True, False])
def test_a_second_request_on_a_connection_that_drains_is_refused(start, reads):
    """Also where the first answer is made, but not read yet, when connections are told to end."""
    daemon = start("--threads", "1")

    def request(**asked):
        body = json.dumps(endless(**asked)).encode()
        head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body

    with socket.socket(socket.AF_UNIX) as connection:  # its buffers hold less than the answer
        connection.settimeout(20)
        connection.connect(str(daemon.socket))
        connection.sendall(request(stream=True, n=8, logprobs=20, max_tokens=80))
        received = connection.recv(4096)
        daemon.process.send_signal(signal.SIGTERM)
        daemon.wait_for_log("shutting down")
        connection.sendall(request(max_tokens=5))
        if not reads:
            time.sleep(0.5)
        while data := connection.recv(65536):
            received += data
    first, _, second = received.partition(b"data: [DONE]")
    assert b"200 OK" in first
    assert b"503 Service Unavailable" in second
    assert b"Retry-After: 1\r\n" in second
    assert b"shutting_down" in second
    assert daemon.process.wait(20) == 0


def test_idle_keep_alive_connections_do_not_delay_the_end(start):
    daemon = start()
    with daemon.client() as client:
        client.get("/health")
        began = time.monotonic()
        assert daemon.terminate() == 0
        assert time.monotonic() - began < 2


def test_shutdown_over_the_unix_socket_only(start):
    daemon = start()
    with daemon.client() as client:
        answer = client.post("/mlxr/v1/shutdown")
        assert answer.status_code == 403
    with daemon.unix_client() as client:
        assert client.post("/mlxr/v1/shutdown").status_code == 202
    assert daemon.process.wait(20) == 0


def test_log_file(start, tmp_path):
    log = tmp_path / "logs" / "daemon.log"
    daemon = start("--log-file", log)
    daemon.terminate()
    assert "mlxrunnerd ready" in log.read_text()
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert daemon.text() == ""


def test_help_and_version(tmp_path):
    answer = run(tmp_path, "--help")
    assert answer.returncode == 0
    assert "--max-queue" in answer.stdout
    assert "MLXR_MAX_QUEUE" in answer.stdout
    assert run(tmp_path, "--version").stdout.startswith("mlxrunnerd 0.")


@pytest.mark.parametrize(
    ("yaml", "said"),
    [
        (
            "port: 0\nmax_quue: 3\n",
            'bad.yaml:2: unknown setting "max_quue"; did you mean "max_queue"?',
        ),
        ("port: many\n", 'bad.yaml:1: "port" is "many"; it must be a whole number from 0 to 65535'),
        ("host: everywhere\n", "bad.yaml:1: "),
        ("port: [\n", "this is not YAML"),
        ("\x00\x01\x02", "bad.yaml:1: "),
    ],
)
def test_corrupt_configuration(tmp_path, yaml, said):
    config = tmp_path / "bad.yaml"
    config.write_text(yaml)
    answer = run(tmp_path, "--config", config)
    assert answer.returncode == 2
    assert said in answer.stderr
    assert len(answer.stderr.strip().splitlines()) == 1


def test_environment_and_flags_override(start, tmp_path):
    config = tmp_path / "server.yaml"
    config.write_text("max_body_bytes: 2048\n")
    big = {"prompt": "x" * 3000, "max_tokens": 1}
    with start("--config", config).client() as client:
        assert client.post("/v1/completions", json=big).status_code == 413
    environment = {"MLXR_MAX_BODY_BYTES": "8192"}
    with start("--config", config, environment=environment).client() as client:
        assert client.post("/v1/completions", json=big).status_code == 200
    with start("--max-body-bytes", "1024", environment=environment).client() as client:
        assert client.post("/v1/completions", json=big).status_code == 413


def test_wrong_environment_value(tmp_path):
    answer = run(tmp_path, environment={"MLXR_PORT": "http"})
    assert answer.returncode == 2
    assert "MLXR_PORT" in answer.stderr


def test_missing_model_path_is_said_at_start(tmp_path):
    answer = run(tmp_path, "--port", "0", "--model", tmp_path / "nowhere.gguf")
    assert answer.returncode == 1
    assert "nowhere.gguf" in answer.stderr
    answer = run(tmp_path, "--port", "0", "--model", "mlxr-dem")
    assert answer.returncode == 1
    assert "mlxr-demo" in answer.stderr


def test_named_model_is_loaded_at_start_and_becomes_the_default(start):
    daemon = start("--model", MODELS / "mlxr-demo-draft")
    deadline = time.monotonic() + 20
    while not daemon.ps() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert [m["name"] for m in daemon.ps()] == ["mlxr-demo-draft"]
    with daemon.client() as client:
        body = {"prompt": "Once", "max_tokens": 2}
        assert client.post("/v1/completions", json=body).json()["model"] == "mlxr-demo-draft"


def test_no_open_files_are_left(start):
    """A hundred requests, some broken off, leave as many descriptors as before."""
    daemon = start()
    with daemon.client() as client:
        client.post("/v1/completions", json={"prompt": "a", "max_tokens": 1})
    folder = f"/proc/{daemon.process.pid}/fd"
    if not os.path.isdir(folder):
        pytest.skip("needs /proc")
    time.sleep(0.3)
    before = len(os.listdir(folder))
    for i in range(100):
        with daemon.client() as client:
            if i % 2:
                client.get("/health")
            else:
                with client.stream("POST", "/v1/completions", json=endless(stream=True)) as answer:
                    next(events_of(answer))
    daemon.wait_until_quiet()
    time.sleep(0.3)
    assert len(os.listdir(folder)) <= before + 1
