"""What is held back for a tool call is silence on the wire, however fast tokens come: the client
is pinged meanwhile."""

import json
import time

import pytest
from running_daemon import RunningDaemon
from scripted_model import write_scripted_model
from test_tools import QUESTION, TOOLS

NAME = "mumbler"
ENDLESS = {
    "messages": QUESTION,
    "max_tokens": 100_000_000,
    "temperature": 0,
    "stream": True,
    "context_shift": True,
}
PINGS = {"/v1/chat/completions": ": ping", "/v1/messages": "event: ping", "/api/chat": "{"}


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """Its model begins a call and never says whose."""
    folder = tmp_path_factory.mktemp("models")
    write_scripted_model(folder / NAME, ["<tool_call>", " "], endless=True)
    with RunningDaemon("--model", folder / NAME) as running:
        yield running
        assert running.process.poll() is None, running.text()


def body_of(path):
    if path == "/v1/messages":
        tools = [{"name": t["function"]["name"], "input_schema": {}} for t in TOOLS]
        return ENDLESS | {"tools": tools, "model": NAME}
    if path == "/api/chat":
        options = {"num_predict": ENDLESS["max_tokens"], "temperature": 0}
        return {"model": NAME, "messages": QUESTION, "tools": TOOLS, "options": options}
    return ENDLESS | {"tools": TOOLS}


@pytest.mark.parametrize("path", PINGS)
def test_tokens_that_are_held_back_are_pinged_for(own, path):
    with own.client() as client, client.stream("POST", path, json=body_of(path)) as answer:
        assert answer.status_code == 200
        began, lines, pings = time.monotonic(), [], []
        for line in answer.iter_lines():
            lines.append(line)
            if line.startswith(PINGS[path]):
                pings.append(time.monotonic() - began)
            if len(pings) == 2:
                running = own.ps()[0]["running"]
                break
    assert running == 1, lines
    assert 2.5 < pings[0] < 5, lines
    assert 2.5 < pings[1] - pings[0] < 5
    # Nothing was said but for the beginning of the answer.
    for line in lines:
        if line.startswith(("data: {", "{")):
            part = json.loads(line.removeprefix("data: "))
            for choice in part.get("choices", []):
                assert not choice["delta"].get("content")
                assert "tool_calls" not in choice["delta"]
            assert part.get("type") in (None, "message_start", "ping")
            assert not part.get("message", {}).get("tool_calls")
    own.wait_until_quiet()
