"""The commands that print and end."""

import json
import socket
import subprocess
import threading

from conftest import BIN, ROOT
from random_adapter import write_adapter

QUESTION = "What is the capital of Norway?"
ANSWER = "The capital of Norway is Oslo."
GREEDY = ("--temperature", "0")


def test_run_answers_and_starts_the_daemon(mlx):
    assert not (mlx.home / "mlxr.sock").exists()
    assert mlx.run("run", "mlxr-demo", QUESTION, *GREEDY).stdout == ANSWER + "\n"
    assert (mlx.home / "mlxr.sock").exists()
    assert mlx.run("run", "mlxr-demo", *QUESTION.split(), *GREEDY).stdout == ANSWER + "\n"


def test_piped_input_is_the_prompt_or_goes_below_it(mlx):
    assert mlx.run("run", "mlxr-demo", *GREEDY, stdin=QUESTION + "\n").stdout == ANSWER + "\n"
    both = mlx.run("run", "mlxr-demo", "Answer this:", *GREEDY, "--max-tokens", "4", stdin=QUESTION)
    assert both.stdout.strip()
    empty = mlx.run("run", "mlxr-demo", check=False)
    assert empty.returncode == 1
    assert "prompt is empty" in empty.stderr


def test_an_open_socket_as_input_is_not_waited_for(mlx):
    ours, theirs = socket.socketpair()  # never written to, never closed
    with ours, theirs:
        answer = subprocess.run(
            [BIN / "mlx", "run", "mlxr-demo", QUESTION, *GREEDY],
            stdin=theirs,
            env=mlx.environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert answer.stdout == ANSWER + "\n"


def test_an_answer_cut_by_the_context_window_says_so(mlx):
    mlx.environment["MLXR_CONTEXT_LENGTH"] = "32"
    cut = mlx.run("run", "mlxr-demo", "Tell me a story about a fox.", *GREEDY)
    assert cut.stdout.strip()
    assert "the context window is full" in cut.stderr
    wanted = mlx.run("run", "mlxr-demo", "Tell me a story about a fox.", "--max-tokens", "4")
    assert "cut" not in wanted.stderr


def test_models_by_path(mlx):
    gguf = mlx.home / "copy of it.gguf"
    mlx.run("convert", ROOT / "models/mlxr-demo", gguf, "--type", "f16")
    assert mlx.run("run", gguf, QUESTION, *GREEDY).stdout == ANSWER + "\n"
    folder = ROOT / "models/mlxr-demo-draft"
    assert mlx.run("run", folder, "Hello", *GREEDY, "--max-tokens", "5").stdout.strip()
    names = [m["name"] for m in json.loads(mlx.run("list", "--json").stdout)["models"]]
    assert names == ["copy of it", "mlxr-demo", "mlxr-demo-draft"]


def test_a_wrong_name_or_path_says_what_there_is(mlx):
    wrong = mlx.run("run", "mlxr-dem", "hi", check=False)
    assert wrong.returncode == 1
    assert 'did you mean "mlxr-demo"' in wrong.stderr
    assert wrong.stdout == ""
    missing = mlx.run("run", "./nothing.gguf", "hi", check=False)
    assert missing.returncode == 1
    assert "nothing.gguf" in missing.stderr
    broken = mlx.home / "broken.gguf"
    broken.write_bytes(b"GGUF\x03\x00\x00\x00junk")
    damaged = mlx.run("run", broken, "hi", check=False)
    assert damaged.returncode == 1
    assert "broken.gguf" in damaged.stderr
    assert "truncated" in damaged.stderr
    assert mlx.run("run", "mlxr-demo", QUESTION, *GREEDY).stdout == ANSWER + "\n"


def test_sampling_options_reach_the_model(mlx):
    def tell(seed):
        options = ("--seed", seed, "--temperature", "1.2", "--max-tokens", "30")
        return mlx.run("run", "mlxr-demo", "Tell me a story", *options).stdout

    assert tell("1") == tell("1")
    assert len({tell(str(seed)) for seed in range(4)}) > 1
    stopped = mlx.run("run", "mlxr-demo", QUESTION, *GREEDY, "--stop", " Norway")
    assert stopped.stdout == "The capital of\n"
    bad = mlx.run("run", "mlxr-demo", "hi", "--temperature", "warm", check=False)
    assert bad.returncode == 1
    assert "temperature takes a number" in bad.stderr


def test_run_with_an_adapter(mlx, tmp_path):
    write_adapter(tmp_path / "tone", 1, alpha=200)
    write_adapter(tmp_path / "foreign", 1, columns=64)
    ask = ("run", "mlxr-demo", QUESTION, *GREEDY, "--max-tokens", "12")
    plain = mlx.run(*ask).stdout
    adapted = mlx.run(*ask, "--adapter", tmp_path / "tone").stdout
    assert adapted != plain
    assert mlx.run(*ask, "--adapter", f"{tmp_path}/tone/").stdout == adapted
    assert mlx.run(*ask).stdout == plain
    refused = mlx.run(*ask, "--adapter", tmp_path / "foreign", check=False)
    assert refused.returncode == 1
    assert "lora_A.weight" in refused.stderr
    bench = ("bench", "-m", "mlxr-demo", "-p", "8", "-n", "2", "-r", "1", "--adapter")
    assert "tg2 + LoRA" in mlx.run(*bench, tmp_path / "tone").stdout


def test_list_show_ps_stop(mlx):
    assert "mlxr-demo *" in mlx.run("list").stdout
    shown = mlx.run("show", "mlxr-demo").stdout
    assert "Q8_0" in shown
    assert "2048 tokens" in shown
    assert "im_start" in json.loads(mlx.run("show", "mlxr-demo", "--json").stdout)["chat_template"]
    mlx.run("run", "mlxr-demo", QUESTION, *GREEDY)
    loaded = json.loads(mlx.run("ps", "--json").stdout)["models"]
    assert [m["name"] for m in loaded] == ["mlxr-demo"]
    assert loaded[0]["running"] == 0
    assert loaded[0]["kv_blocks_used"] == 0
    shown = mlx.run("ps").stdout
    assert "MEMORY" in shown
    assert "for models are taken" in shown
    assert "mlxr-demo is unloaded" in mlx.run("stop", "mlxr-demo").stdout
    assert json.loads(mlx.run("ps", "--json").stdout)["models"] == []
    assert "has ended" in mlx.run("stop").stdout
    assert "not running" in mlx.run("ps").stdout
    assert not (mlx.home / "mlxr.sock").exists()


def test_two_at_once_start_one_daemon(mlx):
    answers = []
    threads = [
        threading.Thread(
            target=lambda: answers.append(mlx.run("run", "mlxr-demo", QUESTION, *GREEDY).stdout)
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [ANSWER + "\n"] * 4
    log = (mlx.home / "logs/mlxrunnerd.log").read_text()
    assert log.count("mlxrunnerd ready") == 1


def test_serve_runs_the_daemon_in_the_foreground(mlx):
    served = subprocess.Popen(
        [BIN / "mlx", "serve", "--log-level", "info"],
        env=mlx.environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while "mlxrunnerd ready" not in served.stderr.readline():
            assert served.poll() is None
        assert "has ended" in mlx.run("stop").stdout
        assert served.wait(20) == 0
    finally:
        served.kill()
        served.stderr.close()


def test_bench_prints_what_bench_cpu_reads(mlx):
    for flag in (["--json"], ["-o", "json"]):
        out = mlx.run(
            "bench", "-m", "mlxr-demo", "-p", "64", "-n", "8", "-t", "1", "-r", "2", *flag
        )
        rows = json.loads(out.stdout)
        assert [(r["n_prompt"], r["n_gen"]) for r in rows] == [(64, 0), (0, 8)]
        assert all(r["avg_ts"] > 0 and len(r["samples_ts"]) == 2 for r in rows)
    table = mlx.run(
        "bench", "-m", ROOT / "models/mlxr-demo-draft", "-p", "32", "-n", "0", "-r", "1"
    )
    assert "pp32" in table.stdout
    assert "tg" not in table.stdout


def test_bench_serve_asks_a_daemon_of_its_own(mlx):
    out = mlx.run(
        *(
            "bench",
            "--serve",
            "-m",
            ROOT / "models/mlxr-demo-draft",
            "--clients",
            "3",
            "-p",
            "40",
            "-n",
            "8",
        ),
        *("--prefix", "128", "--long-prompt", "300", "--json"),
    )
    rows = {row["test"]: row for row in json.loads(out.stdout)}
    assert list(rows)[:3] == ["1 client", "3 clients", "3 clients, own prefixes"]
    assert all(row["generated_tokens_per_second"] > 0 for row in rows.values())
    assert rows["3 clients"]["cached_tokens"] == 0
    # Whole blocks of 32 tokens: the prefix is four of them.
    assert rows["a prefix, first time"]["cached_tokens"] == 0
    assert rows["a prefix, again"]["cached_tokens"] == 128
    assert rows["a prefix, after a restart"]["cached_tokens"] == 128
    assert "300 tokens among 4 answers" in rows
    assert not (mlx.home / "daemon.json").exists(), "the user's own daemon was started"
    refused = mlx.run("bench", "--serve", "-m", "mlxr-demo", "-r", "2", check=False)
    assert "--repetitions" in refused.stderr


def test_convert_refuses_to_overwrite_and_names_types(mlx):
    out = mlx.home / "x.gguf"
    source = ROOT / "models/mlxr-demo-draft"
    mlx.run("convert", source, out)
    again = mlx.run("convert", source, out, check=False)
    assert "exists already" in again.stderr
    mlx.run("convert", source, out, "--force")
    wrong = mlx.run("convert", source, out, "--force", "--type", "q9", check=False)
    assert "F32, F16, BF16, Q4_0" in wrong.stderr


def test_a_daemon_that_cannot_start_gives_its_reason(mlx):
    (mlx.home / "server.yaml").write_text("prot: 5\n")
    failed = mlx.run("run", "mlxr-demo", "hi", check=False)
    assert failed.returncode == 1
    assert "prot" in failed.stderr
    assert "server.yaml" in failed.stderr
    (mlx.home / "server.yaml").unlink()
