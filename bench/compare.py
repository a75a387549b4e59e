#!/usr/bin/env python3
"""Side by side with llama.cpp: runs both in turn and writes docs/performance.md.

  bench/compare.py --peers ~/.cache/peers --models ~/.cache/peers/models/*.gguf [--threads 2,1]
                   [--reps 3] [--depth 4096 --depth-model FILE] [--batch-model FILE]
  bench/compare.py --table FILE.json        only writes the page from figures kept before

PEERS holds llama.cpp/bin (llama-bench, llama-batched-bench) and machine_limits, a program that
prints the machine's bandwidth and arithmetic peaks as JSON. The runners take turns inside every
repetition, a different one first each time; shown are medians and ranges, and ratios of medians.
Figures of different runs or machines must not be compared: the page names both.
"""

import argparse
import datetime
import json
import pathlib
import platform
import statistics
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "performance.md"
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


class Runners:
    def __init__(self, peers, mlx):
        self.peers, self.mlx = peers, str(mlx)
        self.llama = str(peers / "llama.cpp" / "bin" / "llama-bench")

    def bench(self, model, threads, prompt, generate, depth):
        arguments = ["-m", str(model), "-p", str(prompt), "-n", str(generate), "-t", str(threads)]
        arguments += ["-r", "1", "-o", "json"] + (["-d", str(depth)] if depth else [])
        return {
            "llama.cpp": lambda: speeds([self.llama, *arguments]),
            "MLXR": lambda: speeds([self.mlx, "bench", *arguments]),
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


def measure(options):
    runners = Runners(options.peers, options.mlx)
    data = {"machine": machine(options.peers), "reps": options.reps, "rows": []}

    def add(model, test, threads, pair):
        row = {"model": model.name, "bytes": model.stat().st_size, "test": test, "threads": threads}
        row |= paired(runners, pair, threads, options.reps)
        data["rows"].append(row)
        options.json.write_text(json.dumps(data, indent=1))
        print(*table_rows(row, data["machine"]), sep="\n", flush=True)

    for model in options.models:
        for threads in options.threads:
            add(model, "", threads, runners.bench(model, threads, options.pp, options.tg, 0))
    for depth in options.depth:
        for threads in options.threads[:1]:
            pair = runners.bench(options.depth_model, threads, 0, 32, depth)
            add(options.depth_model, f"at {depth}", threads, pair)
    if options.batch_model:
        for sequences in (1, 8):
            pair = runners.batch(options.batch_model, options.threads[0], sequences, 32)
            add(options.batch_model, f"x {sequences}", options.threads[0], pair)
    return data


def table_rows(row, info):
    """One line for each kind of test of a row."""
    for kind, title in (("pp", "prompt"), ("tg", "generation")):
        peer, ours = (row["figures"][name].get(kind) for name in ("llama.cpp", "MLXR"))
        if not peer or not ours:
            continue
        median = statistics.median(ours)
        shares = ""
        if kind == "tg" and not row["test"]:
            most = statistics.median(row["bandwidth"]) * 1e9 / row["bytes"]
            shares = f"{100 * median / most:.0f} % of bandwidth"
        spread = [f"{statistics.median(v):.1f} ({min(v):.1f}-{max(v):.1f})" for v in (peer, ours)]
        ratio = median / statistics.median(peer)
        test = f"{title} {row['test']}".strip()
        yield (
            f"| {row['model'].removesuffix('.gguf')} | {test} | {row['threads']} | {spread[0]} | "
            f"{spread[1]} | {ratio:.2f} | {shares} |"
        )


def write_page(data):
    info, limits = data["machine"], data["machine"]["limits"]
    lines = [
        BEGIN,
        f"Measured on {info['date']}: {info.get('Model name', info['cpu'])} "
        f"(family {info.get('CPU family')}, model {info.get('Model')}; {info.get('ISA')}), "
        f"{info.get('CPU(s)')} cores. Read bandwidth {limits['read_GBps']} GB/s, "
        f"fp32 {limits['fp32_GFLOPS']} GFLOP/s, int8 {limits['int8_GOPS']} GOP/s.",
        f"Tokens a second, median (range) of {data['reps']} paired repetitions.",
        "",
        "| model | test | threads | llama.cpp | MLXR | ratio | share |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in data["rows"]:
        lines += table_rows(row, info)
    lines.append(END)
    page = PAGE.read_text()
    head, rest = page.split(BEGIN)
    PAGE.write_text(head + "\n".join(lines) + rest.split(END)[1])


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    path = pathlib.Path
    parser.add_argument("--peers", type=path, help="folder with llama.cpp/bin and machine_limits")
    parser.add_argument("--mlx", type=path, default=ROOT / "build" / "release" / "bin" / "mlx")
    parser.add_argument("--models", type=path, nargs="*", default=[])
    parser.add_argument("--threads", type=lambda s: [int(n) for n in s.split(",")], default=[2, 1])
    parser.add_argument("--reps", type=int, default=3)
    parser.add_argument("--pp", type=int, default=512)
    parser.add_argument("--tg", type=int, default=128)
    parser.add_argument("--depth", type=int, nargs="*", default=[])
    parser.add_argument("--depth-model", type=path)
    parser.add_argument("--batch-model", type=path)
    parser.add_argument("--json", type=path, default=ROOT / "build" / "compare.json")
    parser.add_argument("--table", type=path, help="figures kept before, as --json wrote them")
    options = parser.parse_args()
    wanted = options.models or options.depth_model or options.batch_model
    if not options.table and not (options.peers and wanted):
        parser.error("give --peers and models, or --table")
    write_page(json.loads(options.table.read_text()) if options.table else measure(options))


if __name__ == "__main__":
    main()
