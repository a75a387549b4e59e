"""The llm command with llm-ollama."""

import os
import subprocess
import sys
from pathlib import Path


def llm(daemon, home, *arguments):
    done = subprocess.run(
        [Path(sys.prefix) / "bin" / "llm", *arguments],
        env={**os.environ, "OLLAMA_HOST": daemon.url, "LLM_USER_PATH": str(home)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_models_prompt_and_conversation(daemon, tmp_path):
    assert "mlxr-demo" in llm(daemon, tmp_path, "ollama", "models")
    asked = ("-m", "ollama/mlxr-demo", "-o", "temperature", "0", "Who are you?")
    whole = llm(daemon, tmp_path, "prompt", "--no-stream", *asked)
    assert "mlxr-demo" in whole
    assert llm(daemon, tmp_path, "prompt", *asked).strip() == whole.strip()
    assert llm(daemon, tmp_path, "prompt", "-c", "Thanks")
