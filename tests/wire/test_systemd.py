"""Socket activation and readiness as systemd has them, without systemd."""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import threading

import httpx
import pytest
from grpc_client import GrpcClient
from running_daemon import ROOT, clean_environment, events_when_ended, program

UNITS = ROOT / "packaging/systemd"


def listen(family, address):
    one = socket.socket(family, socket.SOCK_STREAM)
    one.bind(address)
    one.listen(128)
    return one


class Supervisor:
    """Holds listening sockets and starts daemons on them, one after another."""

    def __init__(self, home, sockets, names=None, pid=None):
        self.home, self.sockets, self.names, self.pid = home, sockets, names, pid
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(str(home / "notify"))
        self.notify.settimeout(30)
        self.log = home / "test.log"
        self.process = None

    def start(self, *arguments):
        # A shell puts the sockets where they belong and becomes the daemon, whose pid is its own.
        high = [fcntl.fcntl(one, fcntl.F_DUPFD, 50) for one in self.sockets]
        moves = "".join(f"exec {3 + i}<&{fd} {fd}<&-;" for i, fd in enumerate(high))
        environment = {
            **clean_environment(self.home / "mlxr"),
            "NOTIFY_SOCKET": str(self.home / "notify"),
            "LISTEN_FDS": str(len(high)),
        }
        if self.names is not None:
            environment["LISTEN_FDNAMES"] = ":".join(self.names)
        words = " ".join(["exec", str(program()), *map(str, arguments)])
        script = f"{moves} LISTEN_PID={self.pid or '$$'}; export LISTEN_PID; {words}"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                ["bash", "-c", script],
                env=environment,
                pass_fds=high,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        for fd in high:
            os.close(fd)

    def said(self):
        return self.notify.recv(4096).decode()

    def address(self):
        return json.loads((self.home / "mlxr/daemon.json").read_text())

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60) if self.process else None


@pytest.fixture
def home(tmp_path_factory):
    # Short: a Unix socket's path holds about a hundred bytes.
    return tmp_path_factory.mktemp("sd")


@pytest.fixture
def supervise(home):
    with contextlib.ExitStack() as stack:

        def make(sockets, **options):
            supervisor = Supervisor(home, sockets, **options)
            stack.callback(supervisor.notify.close)
            stack.callback(supervisor.stop)
            for one in sockets:
                stack.callback(one.close)
            return supervisor

        yield make


def unix_client(path):
    transport = httpx.HTTPTransport(uds=str(path))
    return httpx.Client(base_url="http://mlxr", transport=transport, timeout=60)


def test_passed_sockets_are_served_and_readiness_is_said(home, supervise):
    tcp, path = listen(socket.AF_INET, ("127.0.0.1", 0)), home / "passed.sock"
    unix = listen(socket.AF_UNIX, str(path))
    supervisor = supervise([tcp, unix], names=["http", "http"])
    supervisor.start()
    assert supervisor.said() == "READY=1"

    port = tcp.getsockname()[1]
    said = supervisor.address()
    assert (said["port"], said["socket"]) == (port, str(path))
    assert said["pid"] == supervisor.process.pid
    assert httpx.get(f"http://127.0.0.1:{port}/health").json()["status"] == "ok"
    with unix_client(path) as client:
        assert client.get("/health").json()["pid"] == supervisor.process.pid
        assert client.post("/mlxr/v1/shutdown").status_code == 202  # as the socket's owner may
    assert supervisor.said() == "STOPPING=1"
    assert supervisor.process.wait(20) == 0
    assert stat.S_ISSOCK(path.stat().st_mode)  # who made it keeps it
    assert not (home / "mlxr/mlxr.sock").exists()


def test_a_client_between_two_daemons_waits(home, supervise):
    """The sockets stay when a daemon ends: what came meanwhile is answered by the next one."""
    tcp, path = listen(socket.AF_INET, ("127.0.0.1", 0)), home / "passed.sock"
    unix = listen(socket.AF_UNIX, str(path))
    supervisor = supervise([tcp, unix])
    supervisor.start()
    assert supervisor.said() == "READY=1"
    first = supervisor.process.pid
    assert supervisor.stop() == 0
    assert supervisor.said() == "STOPPING=1"

    answers = {}

    def over_tcp():
        url = f"http://127.0.0.1:{tcp.getsockname()[1]}/health"
        answers["tcp"] = httpx.get(url, timeout=60).json()["pid"]

    def over_unix():
        with unix_client(path) as client:
            answers["unix"] = client.get("/health").json()["pid"]

    threads = [threading.Thread(target=ask) for ask in (over_tcp, over_unix)]
    for thread in threads:
        thread.start()
    supervisor.start()
    assert supervisor.said() == "READY=1"
    for thread in threads:
        thread.join(60)
    assert answers == {"tcp": supervisor.process.pid, "unix": supervisor.process.pid}
    assert first != supervisor.process.pid


def test_running_answers_are_finished_before_the_end(supervise):
    tcp = listen(socket.AF_INET, ("127.0.0.1", 0))
    supervisor = supervise([tcp])
    supervisor.start("--threads", "1")
    assert supervisor.said() == "READY=1"
    url = f"http://127.0.0.1:{tcp.getsockname()[1]}"
    with httpx.Client(base_url=url, timeout=60) as client:
        events = events_when_ended(client, 200, supervisor.process.terminate)
    assert events[-1] == "[DONE]"
    assert supervisor.process.wait(20) == 0


def test_names_choose_the_server(home, supervise):
    http, grpc = (listen(socket.AF_INET, ("127.0.0.1", 0)) for _ in range(2))
    path = home / "g.sock"
    grpc_unix = listen(socket.AF_UNIX, str(path))
    supervisor = supervise([grpc, http, grpc_unix], names=["grpc", "anything", "grpc-local"])
    supervisor.start()
    assert supervisor.said() == "READY=1"
    said = supervisor.address()
    assert said["port"] == http.getsockname()[1]
    assert said["grpc_port"] == grpc.getsockname()[1]
    assert said["grpc_socket"] == str(path)
    # A kind that was not passed is opened as the settings say.
    assert said["socket"] == str(home / "mlxr/mlxr.sock")
    with unix_client(said["socket"]) as client:
        assert client.get("/health").status_code == 200
    for target in (f"127.0.0.1:{said['grpc_port']}", f"unix:{path}"):
        with GrpcClient(target) as rpc:
            assert rpc.call("Models/ListModels").models


def test_sockets_of_another_process_are_left_alone(home, supervise):
    tcp = listen(socket.AF_INET, ("127.0.0.1", 0))
    supervisor = supervise([tcp], pid=1)
    supervisor.start("--port", "0")
    assert supervisor.said() == "READY=1"
    assert supervisor.address()["port"] != tcp.getsockname()[1]
    assert (home / "mlxr/mlxr.sock").exists()


def test_a_passed_socket_for_others_needs_a_key(supervise):
    supervisor = supervise([listen(socket.AF_INET, ("0.0.0.0", 0))])
    supervisor.start()
    assert supervisor.process.wait(30) == 2
    assert "mlx key create" in supervisor.log.read_text()


def test_what_is_no_listening_socket_is_refused(home, supervise):
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    bound.bind(("127.0.0.1", 0))
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for index, wrong in enumerate((bound, datagrams)):
        folder = home / str(index)
        folder.mkdir()
        supervisor = Supervisor(folder, [wrong], names=["odd"])
        supervisor.start()
        assert supervisor.process.wait(30) == 2
        said = supervisor.log.read_text()
        assert "passed socket 3 (odd) is not a listening stream socket" in said
        supervisor.notify.close()
        wrong.close()


@pytest.mark.parametrize("folder", [UNITS, UNITS / "user"])
def test_units_are_valid(folder, tmp_path):
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("needs systemd-analyze")
    for unit in folder.glob("mlxrunnerd.*"):
        text = unit.read_text().replace("/usr/local/bin/mlxrunnerd", str(program()))
        (tmp_path / unit.name).write_text(text)
    scope = ["--user"] if folder.name == "user" else []
    done = subprocess.run(
        [verify, *scope, "verify", *map(str, sorted(tmp_path.glob("mlxrunnerd.*")))],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    ours = [line for line in done.stderr.splitlines() if "mlxrunnerd" in line]
    assert ours == [], done.stderr
