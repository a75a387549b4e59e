"""Every test has a home of its own; its daemon, started by the command line, ends with it."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pexpect
import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(os.environ.get("MLXR_BIN", ROOT / "build/release/bin"))


class CommandLine:
    def __init__(self, home):
        self.home = home
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("MLXR_")}
        self.environment.update(MLXR_HOME=str(home), MLXR_PORT="0", TERM="xterm", LC_ALL="C.UTF-8")

    def run(self, *arguments, stdin="", check=True):
        done = subprocess.run(
            [BIN / "mlx", *map(str, arguments)],
            input=stdin,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        if check:
            assert done.returncode == 0, done.stderr
        return done

    def chat(self, *arguments):
        """An interactive chat on a terminal, past its greeting."""
        child = pexpect.spawn(
            str(BIN / "mlx"),
            ["run", *map(str, arguments)],
            env=self.environment,
            encoding="utf-8",
            timeout=30,
            dimensions=(40, 200),
        )
        child.expect_exact(">>> ")
        return child


@pytest.fixture
def mlx():
    # Short, because a Unix socket's path holds about a hundred bytes.
    home = Path(tempfile.mkdtemp(prefix="mlxr-cli-"))
    command_line = CommandLine(home)
    yield command_line
    command_line.run("stop", "--quiet")
    shutil.rmtree(home, ignore_errors=True)
