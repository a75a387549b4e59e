#!/usr/bin/env python3
"""Task scores of mlxr-demo in every format that mlx convert writes, as a table for
docs/performance.md.

  tests/scores/report.py [FORMAT...]      MLXR_BIN: folder of the programs (build/release/bin)
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from test_scores import BIN, ROOT, wait_for_url

MODEL = "mlxr-demo"
FORMATS = [
    "BF16",
    "Q8_0",
    "Q6_K",
    "Q5_K",
    "Q5_1",
    "Q5_0",
    "Q4_K",
    "Q4_1",
    "Q4_0",
    "IQ4_NL",
    "IQ4_XS",
    "MXFP4",
    "Q3_K",
    "Q2_K",
]  # F32 and F16 hold the same numbers as BF16


def scores_of(weight_format, home):
    gguf = home / f"{MODEL}-{weight_format.lower()}.gguf"
    subprocess.run(
        [BIN / "mlx", "convert", ROOT / "models" / MODEL, gguf, "--type", weight_format.lower()],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    state, report = home / "daemon.json", home / "scores.json"
    daemon = subprocess.Popen(
        [BIN / "mlxrunnerd", "--port", "0", "--model", gguf, "--log-file", home / "log"],
        env=dict(os.environ, MLXR_HOME=str(home)),
    )
    try:
        subprocess.run(
            [
                *(sys.executable, ROOT / "models/recipe/evaluate.py"),
                *("--url", wait_for_url(state, daemon) + "/v1", "--model", gguf.stem),
                *("--parallel", "8", "--json", report),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )
    finally:
        daemon.terminate()
        daemon.wait(30)
    return gguf.stat().st_size, json.loads(report.read_text())["scores"]


def main():
    expected = json.loads((ROOT / "models/eval/expected.json").read_text())[MODEL]["scores"]
    print("| format | MB | mean | tasks that lose most against the reference |")
    print("| --- | --- | --- | --- |")
    for weight_format in sys.argv[1:] or FORMATS:
        with tempfile.TemporaryDirectory() as home:
            size, scores = scores_of(weight_format, Path(home))
        lost = sorted((scores[task] - expected[task], task) for task in scores)
        worst = ", ".join(f"{task} {change:+.1f}" for change, task in lost[:3] if change < -3)
        mean = sum(scores.values()) / len(scores)
        print(f"| {weight_format} | {size / 1e6:.1f} | {mean:.1f} | {worst} |", flush=True)


if __name__ == "__main__":
    main()
