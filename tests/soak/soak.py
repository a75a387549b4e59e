"""A soak: clients of several models ask, cancel and unload at random for a long time.

Every answer is greedy, so it must be the one that its prompt got alone at the beginning, whatever
shares its batch, whatever is cached, on disk, or has been loaded anew. The memory budget holds
fewer models than are asked for, so they push each other out all the time. The daemon's own memory
(RssAnon) is written down every second; it must be flat once everything has been used.
"""

import argparse
import collections
import json
import random
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "wire"))
from running_daemon import MODELS, RunningDaemon  # noqa: E402

WORDS = ["fox", "lantern", "river", "stone", "window", "apple", "north", "seven", "quiet", "letter"]
CONTEXT = 900  # tokens; the longest prompt leaves room
SAMPLE_SECONDS = 1.0
WARM_UP = 0.25  # of the time: until then memory may grow
GROWTH = 0.05  # that the rest may take more than its first part, and these bytes
SLACK = 8 << 20


def own_memory(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("this system does not say what a process takes")


def questions(models, seed, count):
    """What may be asked; many share a beginning."""
    choice = random.Random(seed)

    def words(most):
        return " ".join(choice.choices(WORDS, k=choice.randint(1, most)))

    beginnings = ["", words(30), words(120), words(300)]

    def question():
        asked = {
            "model": choice.choice(models),
            "prompt": f"{choice.choice(beginnings)} {words(80)}",
            "max_tokens": choice.randint(1, 60),
            "temperature": 0,
            "ignore_eos": choice.random() < 0.5,
        }
        if choice.random() < 0.08:  # outgrows the window
            asked |= {"context_shift": True, "ignore_eos": True, "max_tokens": CONTEXT}
        return asked

    return [question() for _ in range(count)]


def ask(client, body):
    """The answer, and None where the server had no room for its model just then."""
    for _ in range(600):
        answer = client.post("/v1/completions", json=body)
        if answer.status_code not in (429, 503):
            break
        time.sleep(0.05)
    answer.raise_for_status()
    return answer.json()["choices"][0]["text"]


class Soak:
    def __init__(self, options):
        self.options = options
        self.home = Path(tempfile.mkdtemp(prefix="mlxr-soak-"))
        self.models = self.home / "soak-models"
        self.models.mkdir()
        # The same weights under several names are several models to the daemon.
        for name in ("small-a", "small-b", "small-window"):
            shutil.copytree(MODELS / "mlxr-demo-draft", self.models / name)
        shutil.copytree(MODELS / "mlxr-demo", self.models / "large")
        self.give_window(self.models / "small-window" / "config.json")
        self.names = ["small-a", "small-b", "small-window", "large"]
        self.daemon = None
        self.counts = collections.Counter()
        self.problems = []
        self.memory = []  # (seconds, bytes)
        self.ends = 0.0

    @staticmethod
    def give_window(config):
        """The same weights as a Mistral, whose layers see the last positions alone."""
        spec = json.loads(config.read_text())
        spec |= {"model_type": "mistral", "architectures": ["MistralForCausalLM"]}
        config.write_text(json.dumps(spec | {"sliding_window": 200}))

    def start(self):
        common = ["--model-folders", self.models, "--context-length", CONTEXT]
        common += ["--kv-bytes", "16MiB", "--kv-disk-bytes", "64MiB"]
        with RunningDaemon(*common) as daemon, daemon.client() as client:
            sizes = {}
            for name in self.names:
                said = client.post("/mlxr/v1/load", json={"name": name}).json()
                sizes[name] = said["memory"]["total_bytes"]
        budget = sum(sizes.values()) - min(sizes.values()) // 2  # all but one of them
        self.daemon = RunningDaemon(*common, "--memory-bytes", budget, home=self.home)
        print(f"models {sizes}, memory_bytes {budget}", flush=True)

    def client(self):
        return httpx.Client(base_url=self.daemon.url, timeout=300)

    def run_client(self, number, asked, alone):
        choice = random.Random(self.options.seed * 1000 + number)
        with self.client() as client:
            while time.monotonic() < self.ends and len(self.problems) < 20:
                index = choice.randrange(len(asked))
                try:
                    self.one(client, choice, asked[index], alone[index])
                except Exception as problem:  # a soak reports, and goes on
                    self.problems.append(f"{asked[index]['model']}: {problem!r}")

    def one(self, client, choice, body, expected):
        chance = choice.random()
        if chance < 0.15:
            self.cancel(client, choice, body, expected)
        elif chance < 0.17:
            client.post("/mlxr/v1/unload", json={"name": choice.choice(self.names)})
            self.counts["unloads asked"] += 1
        else:
            text = ask(client, body)
            self.counts["answers"] += 1
            if text != expected:
                self.problems.append(f"{body}: {text!r} instead of {expected!r}")

    def cancel(self, client, choice, body, expected):
        """Reads a little of a stream and goes away."""
        with client.stream("POST", "/v1/completions", json=body | {"stream": True}) as answer:
            if answer.status_code in (429, 503):
                return
            text, pieces = "", choice.randint(0, 5)
            for line in answer.iter_lines():
                if pieces == 0 or line == "data: [DONE]":
                    break
                if line.startswith("data: "):
                    text += json.loads(line[6:])["choices"][0]["text"]
                    pieces -= 1
        self.counts["cancels"] += 1
        if not expected.startswith(text):
            self.problems.append(f"{body}: {text!r} instead of the beginning of {expected!r}")

    def watch(self, began):
        while time.monotonic() < self.ends:
            self.memory.append((time.monotonic() - began, own_memory(self.daemon.process.pid)))
            time.sleep(SAMPLE_SECONDS)

    def check_memory(self, seconds):
        late = [(t, m) for t, m in self.memory if t >= WARM_UP * seconds]
        middle = late[len(late) // 3][0], late[2 * len(late) // 3][0]
        first = max(m for t, m in late if t <= middle[0])
        last = max(m for t, m in late if t >= middle[1])
        median = statistics.median(m for _, m in late)
        print(
            f"own memory in MB: highest of the first third {first / 1e6:.1f}, of the last third "
            f"{last / 1e6:.1f}; median {median / 1e6:.1f}"
        )
        if last > first * (1 + GROWTH) + SLACK:
            self.problems.append(f"memory is not flat: {first} bytes, then {last}")

    def report(self, seconds):
        step = max(len(self.memory) // 20, 1)
        print("seconds  own memory")
        for at in range(0, len(self.memory), step):
            part = self.memory[at : at + step]
            print(f"{part[0][0]:7.0f}  {max(m for _, m in part) / 1e6:.1f} MB")
        print(dict(self.counts))
        self.check_memory(seconds)

    def check_end(self):
        """Nothing is left over: no request, no block, and no memory once all are unloaded."""
        self.daemon.wait_until_quiet(60)
        with self.client() as client:
            memory = client.get("/mlxr/v1/ps").json()["memory"]
            print(json.dumps(memory))
            for model in self.daemon.ps():
                if model["kv_blocks_used"]:
                    self.problems.append(f"{model['name']} keeps {model['kv_blocks_used']} blocks")
            if memory["requests_waiting"]:
                self.problems.append("requests wait for a load that nobody asked for")
            if memory["unloads"]["memory"] == 0:
                self.problems.append("no model ever made room for another: a soak of nothing")
            for name in self.names:
                client.post("/mlxr/v1/unload", json={"name": name})
            left = client.get("/mlxr/v1/ps").json()["memory"]["reserved_bytes"]
            if left:
                self.problems.append(f"{left} bytes are reserved by nobody")
        if self.daemon.terminate(60) != 0:
            self.problems.append("the daemon did not end properly")

    def run(self):
        self.start()
        seconds = self.options.minutes * 60
        asked = questions(self.names, self.options.seed, self.options.questions)
        # Model by model, so that each is loaded once for it.
        order = sorted(range(len(asked)), key=lambda i: asked[i]["model"])
        with self.client() as client:
            found = {i: ask(client, asked[i]) for i in order}
        alone = [found[i] for i in range(len(asked))]
        print(f"{len(asked)} answers alone; now {self.options.clients} clients", flush=True)
        began = time.monotonic()
        self.ends = began + seconds
        threads = [
            threading.Thread(target=self.run_client, args=(i, asked, alone))
            for i in range(self.options.clients)
        ]
        threads.append(threading.Thread(target=self.watch, args=(began,)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.report(seconds)
        self.check_end()

    def stop(self):
        if self.daemon is not None:
            self.daemon.stop()
        shutil.rmtree(self.home, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--questions", type=int, default=120)
    parser.add_argument("--seed", type=int, default=1)
    soak = Soak(parser.parse_args())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        soak.run()
        log = soak.daemon.text()
    finally:
        soak.stop()
    for problem in soak.problems[:20]:
        print("PROBLEM", problem)
    if soak.problems:
        print(log[-4000:])
        sys.exit(1)
    print("flat, and every answer right")


if __name__ == "__main__":
    main()
