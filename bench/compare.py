#!/usr/bin/env python3
"""Side by side with llama.cpp: runs both in turn and writes docs/performance.md.

  bench/compare.py --name zen4 --peers ~/.cache/peers --models ~/.cache/peers/models/*.gguf
                   [--threads 2,1] [--reps 3] [--depth 4096 --depth-model FILE --kv f16 q8_0]
                   [--batch-model FILE] [--load-models FILE...] [--beside MODEL=FILE...]
  bench/compare.py             only writes the page, from the figures in bench/results

PEERS holds llama.cpp/bin (llama-bench, llama-batched-bench) and machine_limits, a program that
prints the machine's bandwidth and arithmetic peaks as JSON. The runners take turns inside every
repetition, a different one first each time; shown are medians and ranges, and ratios of medians.
Figures of different runs or machines must not be compared: each run is a table of its own, kept in
bench/results/NAME.json, and a run of a name that is there adds its rows to it.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "performance.md"
RESULTS = ROOT / "bench" / "results"
BEGIN, END = "<!-- begin: bench/compare.py -->", "<!-- end: bench/compare.py -->"


def output_of(command, timeout=900):
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed: {done.stderr[-400:]}")
    return done.stdout


def speeds(command):
    """{"pp": tokens/s, "tg": tokens/s} of a program that prints llama-bench's JSON."""
    text = output_of(command)
    rows, _ = json.JSONDecoder().raw_decode(text[text.index("[") :])
    return {"pp" if row["n_gen"] == 0 else "tg": row["avg_ts"] for row in rows}


def load_cost(command):
    """Seconds of a whole process, and its largest resident memory in MB."""
    with tempfile.TemporaryFile() as out:
        start = time.monotonic()
        child = subprocess.Popen(command, stdout=out, stderr=out)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - start
        if child.returncode != 0:
            out.seek(0)
            raise RuntimeError(f"{command[0]} failed: {out.read()[-400:]!r}")
    return {"load": seconds, "rss": usage.ru_maxrss / 1024}


class Runners:
    def __init__(self, peers, mlx):
        self.peers, self.mlx = peers, str(mlx)
        self.llama = str(peers / "llama.cpp" / "bin" / "llama-bench")

    def bench(self, model, threads, prompt, generate, depth=0, kv="f16", peer_model=None):
        arguments = ["-p", str(prompt), "-n", str(generate), "-t", str(threads)]
        arguments += ["-r", "1", "-o", "json"] + (["-d", str(depth)] if depth else [])
        peer_file = ["-m", str(peer_model or model)]
        # llama.cpp quantises values for its flash attention alone.
        peer_kv = [] if kv == "f16" else ["-ctk", kv, "-ctv", kv, "-fa", "1"]
        our_kv = [] if kv == "f16" else ["--kv-type", kv]
        return {
            "llama.cpp": lambda: speeds([self.llama, *peer_file, *arguments, *peer_kv]),
            "MLXR": lambda: speeds([self.mlx, "bench", "-m", str(model), *arguments, *our_kv]),
        }

    def load(self, model, threads):
        """A process that loads a model, whose file is in the page cache, and reads eight tokens."""
        arguments = ["-m", str(model), "-p", "8", "-n", "0", "-t", str(threads), "-r", "1"]
        return {
            "llama.cpp": lambda: load_cost([self.llama, *arguments, "--no-warmup"]),
            "MLXR": lambda: load_cost([self.mlx, "bench", *arguments]),
        }

    def batch(self, model, threads, sequences, tokens):
        def llama():
            program = self.peers / "llama.cpp" / "bin" / "llama-batched-bench"
            text = output_of(
                [str(program), "-m", str(model), "-t", str(threads), "-c", "4096", "-npp", "8"]
                + ["-ntg", str(tokens), "-npl", str(sequences), "--output-format", "jsonl"]
            )
            row = next(json.loads(line) for line in text.splitlines() if line.startswith("{"))
            return {"tg": row["speed_tg"]}

        command = [self.mlx, "bench", "-m", str(model), "-p", "0", "-n", str(tokens), "-r", "1"]
        command += ["-t", str(threads), "--sequences", str(sequences), "-o", "json"]
        return {"llama.cpp": llama, "MLXR": lambda: speeds(command)}

    def limits(self, threads):
        text = output_of([str(self.peers / "machine_limits"), "1", str(threads), "read"])
        return json.loads(text)["read_GBps"][f"{threads}t"]


def paired(runners, pair, threads, reps):
    """Figures of both by kind, and the bandwidth measured in between."""
    figures = {name: {} for name in pair}
    bandwidth = []
    for rep in range(reps):
        bandwidth.append(runners.limits(threads))
        names = list(pair)
        for name in names[rep % 2 :] + names[: rep % 2]:
            for kind, speed in pair[name]().items():
                figures[name].setdefault(kind, []).append(speed)
    bandwidth.append(runners.limits(threads))
    return {"figures": figures, "bandwidth": bandwidth}


def machine(peers):
    info = {"date": datetime.date.today().isoformat(), "cpu": platform.processor()}
    for line in output_of(["lscpu"]).splitlines():
        key, _, value = line.partition(":")
        if key in ("Model name", "CPU family", "Model", "CPU(s)"):
            info[key] = value.strip()
        if key == "Flags":
            wanted = ("avx2", "avx512f", "avx512_vnni", "avx_vnni")
            info["ISA"] = " ".join(flag for flag in value.split() if flag in wanted)
    info["limits"] = json.loads(output_of([str(peers / "machine_limits")]))
    return info


def size_of(model):
    files = model.glob("*.safetensors") if model.is_dir() else [model]
    return sum(file.stat().st_size for file in files)


def measure(options):
    runners = Runners(options.peers, options.mlx)
    file = RESULTS / f"{options.name}.json"
    data = json.loads(file.read_text()) if file.exists() else {"rows": []}
    data |= {"machine": machine(options.peers), "reps": options.reps, "note": options.note}

    def add(model, test, threads, pair):
        row = {"model": model.name, "bytes": size_of(model), "test": test, "threads": threads}
        row |= paired(runners, pair, threads, options.reps)
        data["rows"].append(row)
        file.write_text(json.dumps(data, indent=1) + "\n")
        print(*table_rows(row, data["machine"]["limits"]), sep="\n", flush=True)

    for model in options.models:
        for threads in options.threads:
            add(model, "", threads, runners.bench(model, threads, options.pp, options.tg))
    for ours, theirs in options.beside:
        for threads in options.threads:
            pair = runners.bench(ours, threads, options.pp, options.tg, peer_model=theirs)
            add(ours, f"beside {theirs.stem}", threads, pair)
    for depth in options.depth:
        for kv in options.kv:
            threads = options.threads[0]
            pair = runners.bench(options.depth_model, threads, 0, 32, depth, kv)
            add(options.depth_model, f"at {depth}, {kv} KV", threads, pair)
    if options.batch_model:
        for sequences in (1, 8):
            pair = runners.batch(options.batch_model, options.threads[0], sequences, 32)
            add(options.batch_model, f"x {sequences}", options.threads[0], pair)
    for model in options.load_models:
        add(model, "", options.threads[0], runners.load(model, options.threads[0]))


# A prompt token's arithmetic: two operations a weight without the embedding rows, which are only
# looked up; the output matrix is multiplied for the last token alone.
GOP_PER_PROMPT_TOKEN = {"llama-1b": 1.95, "qwen2-0.5b": 0.72}

KINDS = {"pp": "prompt", "tg": "generation", "load": "load, seconds", "rss": "load, peak MB"}


def share(kind, row, median, limits):
    """What part of the machine's limit a median reaches, in words; empty where none is known."""
    if row["test"] and not row["test"].startswith("beside"):
        return ""
    if kind == "tg":
        most = statistics.median(row["bandwidth"]) * 1e9 / row["bytes"]
        return f"{100 * median / most:.0f} % of bandwidth"
    shape = "-".join(row["model"].split("-")[:2])
    if kind == "pp" and shape in GOP_PER_PROMPT_TOKEN:
        peak, name = ("fp32_GFLOPS", "fp32") if "-f16" in row["model"] else ("int8_GOPS", "int8")
        if most := limits[peak].get(f"{row['threads']}t"):
            return f"{100 * median * GOP_PER_PROMPT_TOKEN[shape] / most:.0f} % of {name}"
    return ""


def table_rows(row, limits):
    """One line for each kind of test of a row."""
    for kind, title in KINDS.items():
        peer, ours = (row["figures"][name].get(kind) for name in ("llama.cpp", "MLXR"))
        if not peer or not ours:
            continue
        median = statistics.median(ours)
        digits = 2 if kind == "load" else 0 if kind == "rss" else 1
        spread = [
            f"{statistics.median(v):.{digits}f} ({min(v):.{digits}f}-{max(v):.{digits}f})"
            for v in (peer, ours)
        ]
        ratio = median / statistics.median(peer)
        test = f"{title} {row['test']}".strip()
        yield (
            f"| {row['model'].removesuffix('.gguf')} | {test} | {row['threads']} | {spread[0]} | "
            f"{spread[1]} | {ratio:.2f} | {share(kind, row, median, limits)} |"
        )


def section(name, data):
    info, limits = data["machine"], data["machine"]["limits"]
    few = {
        key: {n: v for n, v in limits[key].items() if n in ("1t", "2t")}
        for key in limits
        if isinstance(limits[key], dict)
    }
    lines = [
        f"### {name}: {info.get('Model name', info['cpu'])} (family {info.get('CPU family')}, "
        f"model {info.get('Model')}; {info.get('ISA')}), {info['date']}",
        f"{data.get('note') or ''} {info.get('CPU(s)')} cores. Read bandwidth of one and two "
        f"threads {' and '.join(str(v) for v in few['read_GBps'].values())} GB/s, fp32 "
        f"{' and '.join(str(v) for v in few['fp32_GFLOPS'].values())} GFLOP/s, int8 "
        f"{' and '.join(str(v) for v in few['int8_GOPS'].values())} GOP/s. Tokens a second where "
        f"nothing else is said, median (range) of {data['reps']} paired repetitions.".strip(),
        "",
        "| model | test | threads | llama.cpp | MLXR | ratio | share |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in data["rows"]:
        lines += table_rows(row, limits)
    return "\n".join(line.strip() for line in lines)


def write_page():
    files = sorted(RESULTS.glob("*.json"), key=lambda file: file.stem)
    sections = [section(file.stem, json.loads(file.read_text())) for file in files]
    head, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text("\n".join([head + BEGIN, "\n\n".join(sections), END + rest.split(END)[1]]))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    path = pathlib.Path
    parser.add_argument("--name", help="of this run; its figures go to bench/results/NAME.json")
    parser.add_argument("--note", default="", help="a sentence about this run for the page")
    parser.add_argument("--peers", type=path, help="folder with llama.cpp/bin and machine_limits")
    parser.add_argument("--mlx", type=path, default=ROOT / "build" / "release" / "bin" / "mlx")
    parser.add_argument("--models", type=path, nargs="*", default=[])
    parser.add_argument("--threads", type=lambda s: [int(n) for n in s.split(",")], default=[2, 1])
    parser.add_argument("--reps", type=int, default=3)
    parser.add_argument("--pp", type=int, default=512)
    parser.add_argument("--tg", type=int, default=128)
    parser.add_argument("--depth", type=int, nargs="*", default=[])
    parser.add_argument("--depth-model", type=path)
    parser.add_argument("--kv", nargs="*", default=["f16"], help="KV types at depth")
    parser.add_argument("--batch-model", type=path)
    parser.add_argument(
        "--beside",
        type=lambda s: tuple(map(path, s.split("=", 1))),
        nargs="*",
        default=[],
        help="a model that llama.cpp cannot read, and the nearest that it can",
    )
    parser.add_argument("--load-models", type=path, nargs="*", default=[])
    options = parser.parse_args()
    if bool(options.name) != bool(options.peers):
        parser.error("give --name and --peers to measure, or neither to write the page")
    RESULTS.mkdir(exist_ok=True)
    if options.name:
        measure(options)
    write_page()


if __name__ == "__main__":
    main()
