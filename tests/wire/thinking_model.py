"""A model made out of mlxr-demo whose template opens the thoughts itself, as Qwen's do.

Where thinking is off it closes them at once.
"""

import json
from contextlib import contextmanager

from running_daemon import MODELS, RunningDaemon

NAME = "thinker"
PROMPT = "{{- '<|im_start|>assistant\\n' }}"
OPENING = (
    "{%- if enable_thinking is not false %}{{- '<think>' }}"
    "{%- else %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}"
)
SUM = [
    {"role": "system", "content": "Think first, then answer."},
    {"role": "user", "content": "What is 63 + 81 - 88?"},
]


def make_thinking_model(client):
    config = json.loads((MODELS / "mlxr-demo/tokenizer_config.json").read_text())
    before, after = config["chat_template"].split(PROMPT)
    body = {"model": NAME, "from": "mlxr-demo", "template": before + PROMPT + OPENING + after}
    answer = client.post("/api/create", json=body | {"stream": False})
    assert answer.json() == {"status": "success"}, answer.text


@contextmanager
def thinking_daemon():
    """A daemon that has the model; it must be running still at the end."""
    with RunningDaemon() as running:
        with running.client() as client:
            make_thinking_model(client)
        yield running
        assert running.process.poll() is None, running.text()
