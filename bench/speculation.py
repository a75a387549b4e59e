#!/usr/bin/env python3
"""What speculation is worth to one client: mlxr-demo without it, with n-grams and with a draft.

  bench/speculation.py [--items 60] [--reps 3] [--json]

Daemons of its own (MLXR_BIN, else the Release build) take turns, one request at a time; needs the
tests' environment. "other" is the draft under other token ids, so that its text is tokenised again;
in "finer", its tokens are smaller, too. Greedy: the tasks of models/eval, where answers can be
foreseen, and they must be the same in all. At random: temperature 2 after random letters, where
nothing can be foreseen. Shown are generated tokens a second by the daemon's own clock (Ollama's
eval_count and eval_duration: prompts are not in it), and the ratio to the first.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/wire"))
from other_vocabulary import write_with_other_vocabulary  # noqa: E402
from running_daemon import RunningDaemon  # noqa: E402

DRAFT = ROOT / "models/mlxr-demo-draft"
MODES = ["off", "ngram", "draft", "other", "finer"]
WITHOUT = {"other": 0, "finer": 3}  # merges: every so many


def settings_of(mode, home):
    if mode in ("off", "ngram"):
        return f"speculation: {mode}\n"
    draft = DRAFT
    if mode in WITHOUT:
        draft = write_with_other_vocabulary(DRAFT, home / "draft", WITHOUT[mode])
    return f"speculation: draft\ndraft_model: {draft}\n"


def start(mode, home):
    settings = home / "configs/models/mlxr-demo.yaml"
    settings.parent.mkdir(parents=True)
    settings.write_text(settings_of(mode, home))
    return RunningDaemon("--model", ROOT / "models/mlxr-demo", "--kv-disk", "false", home=home)


def greedy_requests(count):
    """Chats of every task in turn."""
    files = sorted((ROOT / "models/eval").glob("*.jsonl"))
    tasks = [[json.loads(line) for line in file.read_text().splitlines()] for file in files]
    items = [task[i] for i in range(max(map(len, tasks))) for task in tasks if i < len(task)]
    options = {"temperature": 0, "num_predict": 200}
    plain = [i for i in items if "messages" in i and "tool_calls" not in str(i["messages"])]
    for item in plain[:count]:
        body = {k: item[k] for k in ("messages", "tools") if item.get(k)}
        yield "/api/chat", {**body, "model": "mlxr-demo", "stream": False, "options": options}


def random_requests(count):
    draw = random.Random(1)
    for seed in range(count):
        prompt = "".join(draw.choices("abcdefghijklmnopqrstuvwxyz ", k=80))
        options = {"temperature": 2, "top_k": 0, "top_p": 1, "seed": seed, "num_predict": 100}
        body = {"model": "mlxr-demo", "prompt": prompt, "raw": True, "stream": False}
        yield "/api/generate", {**body, "options": options}


def tokens_a_second(client, requests):
    """The speed, and what was answered."""
    tokens = nanoseconds = 0
    answers = []
    for path, body in requests:
        answer = client.post(path, json=body).raise_for_status().json()
        tokens += answer["eval_count"]
        nanoseconds += answer["eval_duration"]
        answers.append(answer.get("message") or answer["response"])
    return tokens / nanoseconds * 1e9, answers


def without_ids(message):
    """Tool calls are numbered at random."""
    calls = [call["function"] for call in message.get("tool_calls") or []]
    return message.get("content"), message.get("thinking"), calls


def measure(clients, requests, reps):
    speeds = {mode: [] for mode in clients}
    answers = {}
    for rep in range(reps + 1):  # the first warms up
        modes = list(clients)
        for mode in modes[rep % len(modes) :] + modes[: rep % len(modes)]:
            speed, answers[mode] = tokens_a_second(clients[mode], requests)
            if rep:
                speeds[mode].append(speed)
    return speeds, answers


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=60)
    parser.add_argument("--reps", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with ExitStack() as stack:
        daemons = {}
        for mode in MODES:
            home = stack.enter_context(tempfile.TemporaryDirectory(prefix="mlxr-spec-"))
            daemons[mode] = start(mode, Path(home))
            stack.callback(daemons[mode].stop)
        clients = {mode: stack.enter_context(d.client()) for mode, d in daemons.items()}
        greedy, answers = measure(clients, list(greedy_requests(options.items)), options.reps)
        drawn, _ = measure(clients, list(random_requests(options.items // 3)), options.reps)
    plain = [without_ids(message) for message in answers["off"]]
    for mode in MODES:
        if [without_ids(message) for message in answers[mode]] != plain:
            sys.exit(f"{mode}: some greedy answer is not the one without speculation")
    if options.json:
        print(json.dumps({"greedy": greedy, "random": drawn}))
        return
    print("mlxr-demo, one client, tokens/s:")
    for title, speeds in (("greedy", greedy), ("random", drawn)):
        base = statistics.median(speeds["off"])
        for mode, values in speeds.items():
            median = statistics.median(values)
            spread = f"({min(values):.0f}-{max(values):.0f})"
            print(f"  {title:7} {mode:6} {median:6.0f} {spread:12} {median / base:.2f}")


if __name__ == "__main__":
    main()
