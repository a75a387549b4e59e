"""KV blocks on disk: what a daemon has read, the next one need not compute, killed or not."""

import contextlib
import random
import stat
import threading
import time

import httpx
from running_daemon import MODELS, RunningDaemon, endless, events_of

MODEL = "mlxr-demo-draft"


def start(home, **environment):
    return RunningDaemon("--model", MODELS / MODEL, home=home, environment=environment)


def prompt(seed, words=60):
    choice = random.Random(seed)
    names = ["fox", "lantern", "river", "stone", "window", "apple", "north", "seven", "quiet"]
    return " ".join(choice.choice(names) for _ in range(words))


def ask(daemon, text, tokens=20, **fields):
    """The answer, and how many tokens of the prompt were not computed."""
    body = {"prompt": text, "max_tokens": tokens, "temperature": 0, "ignore_eos": True, **fields}
    with daemon.client() as client:
        answer = client.post("/v1/completions", json=body)
    assert answer.status_code == 200, answer.text
    said = answer.json()
    return said["choices"][0]["text"], said["usage"]["prompt_tokens_details"]["cached_tokens"]


def metric(daemon, name):
    with daemon.client() as client:
        for line in client.get("/metrics").text.splitlines():
            if line.startswith(f'{name}{{model="{MODEL}"}}'):
                return float(line.split()[-1])
    raise AssertionError(f"no {name}")


def wait_until_kept(daemon, seconds=20):
    deadline = time.monotonic() + seconds
    while metric(daemon, "mlxr_kv_disk_blocks") == 0 and time.monotonic() < deadline:
        time.sleep(0.01)


def folder_of(home):
    return home / "kv" / f"model-{MODEL}"


def test_a_prompt_outlives_the_daemon(tmp_path):
    with start(tmp_path) as daemon:
        text, cached = ask(daemon, prompt(1))
        assert cached == 0
        salted = ask(daemon, prompt(2), cache_salt="mine")[0]
        assert daemon.terminate() == 0
    kept = [folder_of(tmp_path) / name for name in ("index", "blocks", "lock")]
    for path in [*kept, tmp_path / "kv" / "secret"]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with start(tmp_path) as daemon:
        again, cached = ask(daemon, prompt(1))
        assert again == text
        assert cached >= 32
        assert metric(daemon, "mlxr_kv_restored_blocks_total") == cached / 32
        assert metric(daemon, "mlxr_kv_disk_blocks") > 0
        assert metric(daemon, "mlxr_kv_disk_bytes") > 0
        assert metric(daemon, "mlxr_kv_dropped_blocks_total") == 0
        assert ask(daemon, prompt(2)) == (salted, 0)
        assert ask(daemon, prompt(2), cache_salt="mine")[1] >= 32


def test_it_can_be_turned_off_and_bounded(tmp_path):
    with start(tmp_path, MLXR_KV_DISK="false") as daemon:
        ask(daemon, prompt(1))
    assert not (tmp_path / "kv").exists()
    with start(tmp_path, MLXR_KV_DISK_BYTES="1MiB") as daemon:
        for seed in range(12):
            ask(daemon, prompt(seed, 150), tokens=2)
    size = sum(path.stat().st_size for path in folder_of(tmp_path).iterdir())
    assert 500_000 < size <= 1 << 20


def test_two_daemons_do_not_share_a_folder(tmp_path):
    home = tmp_path / "second"
    home.mkdir()
    with start(tmp_path) as first:
        ask(first, prompt(1))
        with start(home, MLXR_KV_DISK_FOLDER=str(tmp_path / "kv")) as second:
            assert ask(second, prompt(1))[1] == 0
            assert "runs without KV blocks on disk: another process uses" in second.text()


def test_damaged_files_are_a_miss_with_one_warning(tmp_path):
    with start(tmp_path) as daemon:
        texts = [ask(daemon, prompt(seed, 100))[0] for seed in range(4)]
    blocks = folder_of(tmp_path) / "blocks"
    content = bytearray(blocks.read_bytes())
    for i in range(0, len(content), 5000):
        content[i] ^= 0x55
    blocks.write_bytes(content)
    with start(tmp_path) as daemon:
        for seed, text in enumerate(texts):
            assert ask(daemon, prompt(seed, 100))[0] == text
        assert daemon.text().count("damaged KV block") == 1
        assert metric(daemon, "mlxr_kv_damaged_blocks_total") >= 1


def test_damage_to_whole_files_is_told_and_counted(tmp_path):
    folder = folder_of(tmp_path)
    for file in (folder / "index", folder / "blocks", tmp_path / "kv" / "secret"):
        for damage in (b"", b"no such thing"):
            with start(tmp_path) as daemon:
                text = ask(daemon, prompt(1, 100))[0]
            file.write_bytes(damage)
            daemon.log.unlink()
            with start(tmp_path) as daemon:
                assert ask(daemon, prompt(1, 100)) == (text, 0)
                assert "prompts are computed again" in daemon.text()
                assert metric(daemon, "mlxr_kv_damaged_blocks_total") >= 1


def test_another_kv_type_leaves_the_blocks_alone(tmp_path):
    with start(tmp_path) as daemon:
        text = ask(daemon, prompt(1, 100))[0]
    with start(tmp_path, MLXR_KV_TYPE="q8_0") as daemon:
        assert ask(daemon, prompt(1, 100))[1] == 0
        assert metric(daemon, "mlxr_kv_damaged_blocks_total") == 0
    with start(tmp_path) as daemon:
        again, cached = ask(daemon, prompt(1, 100))
        assert again == text
        assert cached > 0
    with start(tmp_path, MLXR_KV_TYPE="q8_0") as daemon:
        assert ask(daemon, prompt(1, 100))[1] > 0


def test_a_copy_that_follows_one_that_answers_has_its_blocks(tmp_path):
    with start(tmp_path) as daemon, daemon.client() as client:
        text = ask(daemon, prompt(1, 100))[0]
        body = endless(stream=True, n=8)
        with client.stream("POST", "/v1/completions", json=body) as answer:
            events = events_of(answer)
            next(events)
            with daemon.client() as other:
                assert other.post("/mlxr/v1/unload", json={"name": MODEL}).json()["unloaded"]
            again, cached = ask(daemon, prompt(1, 100))
            assert (again, cached > 0) == (text, True)
            assert [m["leaving"] for m in daemon.ps()] == [False, True]
        daemon.wait_until_quiet()
        wait_until_kept(daemon)
        assert "runs without KV blocks" not in daemon.text()


def test_killed_while_it_writes_it_answers_rightly_the_next_time(tmp_path):
    with start(tmp_path, MLXR_KV_DISK="false") as daemon:
        expected = [ask(daemon, prompt(seed, 120))[0] for seed in range(6)]
    choice = random.Random(0)
    restored = 0
    for _ in range(4):
        with start(tmp_path, MLXR_KV_DISK_BYTES="2MiB") as daemon:
            seeds = choice.sample(range(6), 2)
            for seed in seeds:
                assert ask(daemon, prompt(seed, 120))[0] == expected[seed]
            wait_until_kept(daemon)
            restored += metric(daemon, "mlxr_kv_restored_blocks_total")

            def keep_busy(seed, daemon=daemon):
                with contextlib.suppress(httpx.HTTPError, AssertionError):  # it is killed
                    ask(daemon, prompt(seed, 200), tokens=300)

            busy = [threading.Thread(target=keep_busy, args=(100 + i,)) for i in range(3)]
            for thread in busy:
                thread.start()
            time.sleep(choice.uniform(0.02, 0.3))
            daemon.process.kill()
            daemon.process.wait()
            for thread in busy:
                thread.join(20)
    with start(tmp_path) as daemon:
        for seed, text in enumerate(expected):
            assert ask(daemon, prompt(seed, 120))[0] == text
        restored += metric(daemon, "mlxr_kv_restored_blocks_total")
    assert restored > 0
