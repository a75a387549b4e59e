"""The unmodified clients for Node: openai, @anthropic-ai/sdk, ollama (scripts in node/)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "node"
BIN = Path(sys.prefix) / "bin"
PACKAGES = Path(sys.prefix) / "node" / "node_modules"


def run(daemon, script):
    if not PACKAGES.exists():
        pytest.fail(f"{PACKAGES} is missing: run scripts/setup.sh --dev")
    done = subprocess.run(
        [BIN / "node", HERE / script, daemon.url],
        env={**os.environ, "NODE_PATH": str(PACKAGES)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("client", ["openai", "anthropic", "ollama"])
def test_node_client(daemon, client):
    run(daemon, f"{client}.cjs")


def test_the_docs_page_shows_the_whole_description(daemon, http):
    page = http.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    run(daemon, "docs.cjs")
