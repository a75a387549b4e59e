"""One daemon for all; tests/wire says how it is started."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "wire"))
from running_daemon import RunningDaemon  # noqa: E402


@pytest.fixture(scope="session")
def daemon():
    with RunningDaemon() as running:
        yield running
        assert running.process.poll() is None, running.text()
