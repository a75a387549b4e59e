"""One daemon serves the tests that do it no harm; the others start their own."""

import os

# Before gRPC is imported: its threads must not be started anew in the forks that tests/cli makes
# programs of (pexpect): their files are closed under them, and now and then that ended a program
# before it began.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

import openai
import pytest
from running_daemon import RunningDaemon, program


def pytest_sessionstart(session):
    if not program().exists():
        pytest.exit(f"{program()} is missing: build first (scripts/build.sh), or set MLXR_BIN", 2)


@pytest.fixture(scope="session")
def daemon():
    with RunningDaemon() as running:
        yield running
        assert running.process.poll() is None, running.text()


@pytest.fixture(scope="module")
def own():
    """For tests that change the daemon: one of their file's own."""
    with RunningDaemon() as running:
        yield running
        assert running.process.poll() is None, running.text()


@pytest.fixture
def http(daemon):
    with daemon.client() as client:
        yield client


@pytest.fixture
def client(daemon):
    with openai.OpenAI(base_url=daemon.url + "/v1", api_key="none", max_retries=0) as running:
        yield running


@pytest.fixture
def start():
    """Starts daemons that end with the test."""
    running = []

    def start_one(*arguments, **options):
        running.append(RunningDaemon(*arguments, **options))
        return running[-1]

    yield start_one
    for one in running:
        one.stop()
