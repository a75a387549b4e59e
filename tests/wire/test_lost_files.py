"""A model's file that is cut short while the model answers."""

import os
import shutil

from running_daemon import MODELS, endless, events_of


def test_it_ends_the_answer_and_not_the_daemon(start, tmp_path):
    folder = tmp_path / "models" / "fragile"
    shutil.copytree(MODELS / "mlxr-demo-draft", folder)
    weights = folder / "model.safetensors"
    bytes_before = weights.read_bytes()
    daemon = start(
        *("--model-folders", f"{MODELS}:{folder.parent}"),
        *("--repack", "false", "--threads", "1", "--kv-disk", "false"),
    )
    with daemon.client() as client, daemon.client() as other:
        ask = endless(model="fragile", max_tokens=20)
        before = client.post("/v1/completions", json=ask).json()["choices"][0]["text"]
        stream = endless(model="fragile", stream=True, n=8)
        with client.stream("POST", "/v1/completions", json=stream) as answer:
            events = events_of(answer)
            next(events)
            os.truncate(weights, len(bytes_before) // 2)
            last = list(events)[-1]
        assert "became shorter" in last["error"]["message"]
        assert str(weights) in last["error"]["message"]
        refused = other.post("/v1/completions", json=ask)
        assert refused.status_code == 422
        assert str(weights) in refused.json()["error"]["message"]
        assert other.post("/v1/completions", json={**ask, "model": "mlxr-demo"}).is_success

        weights.write_bytes(bytes_before)
        after = other.post("/v1/completions", json=ask).json()["choices"][0]["text"]
        assert after == before
