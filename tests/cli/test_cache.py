"""mlx cache: KV blocks on disk, with a daemon and without one."""

import json

STORY = "Tell me a long story about a fox, a lantern and a river in the north. " * 4


def test_blocks_are_listed_guarded_and_removed(mlx):
    assert "no KV blocks" in mlx.run("cache", "ls").stdout
    assert not (mlx.home / "mlxr.sock").exists()  # no daemon was started for it
    mlx.run("run", "mlxr-demo", STORY)
    table = mlx.run("cache", "ls").stdout.splitlines()
    assert table[0].split() == ["NAME", "BLOCKS", "SIZE", "LAST", "USE", "IN", "USE"]
    assert table[1].startswith("mlxr-demo ")
    assert table[1].endswith("yes")
    for what in ("mlxr-demo", "--all"):
        refused = mlx.run("cache", "rm", what, check=False)
        assert refused.returncode == 1
        assert 'a daemon uses the KV blocks of "mlxr-demo"; unload it first: mlx stop' in (
            refused.stderr
        )
    counted = json.loads(mlx.run("cache", "stats", "--json").stdout)
    assert counted["loaded"][0]["kv_blocks_dropped"] == 0

    mlx.run("stop", "mlxr-demo")
    (listed,) = json.loads(mlx.run("cache", "ls", "--json").stdout)["models"]
    assert listed["name"] == "mlxr-demo"
    assert listed["blocks"] >= 2
    assert not listed["in_use"]
    stats = json.loads(mlx.run("cache", "stats", "--json").stdout)
    assert stats["blocks"] == listed["blocks"]
    assert stats["bytes"] == listed["bytes"] > 0
    assert stats["most_bytes_each"] == 2 << 30
    assert str(mlx.home / "kv") in mlx.run("cache", "stats").stdout

    assert "mlxr-demo are removed" in mlx.run("cache", "rm", "mlxr-demo").stdout
    assert "no KV blocks" in mlx.run("cache", "ls").stdout
    assert "no KV blocks" in mlx.run("cache", "rm", "--all").stdout


def test_what_is_wrong_is_said(mlx):
    for arguments, words in (
        (("rm", "nothing"), 'no KV blocks of "nothing"'),
        (("rm", "../kv"), 'no KV blocks of "../kv"'),
        (("rm",), "name one model, or give --all"),
        (("rm", "a", "--all"), "name one model, or give --all"),
    ):
        failed = mlx.run("cache", *arguments, check=False)
        assert failed.returncode == 1
        assert words in failed.stderr
    assert mlx.run("cache", check=False).returncode == 2
