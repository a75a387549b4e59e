"""mlx key: without a daemon, and under one."""

import json
import re


def test_keys_are_made_listed_and_revoked_without_a_daemon(mlx):
    assert "no API keys" in mlx.run("key", "ls").stdout
    made = mlx.run("key", "create", "laptop")
    assert re.fullmatch(r"mlxr-[0-9a-f]{64}\n", made.stdout)
    (said,) = re.findall(r"key_[0-9a-f]{12}", made.stderr)
    admin = json.loads(mlx.run("key", "create", "--admin", "--json").stdout)
    assert admin["scopes"] == ["inference", "admin"]
    assert re.fullmatch(r"mlxr-[0-9a-f]{64}", admin["key"])
    listed = json.loads(mlx.run("key", "ls", "--json").stdout)["keys"]
    assert [k["id"] for k in listed] == [said, admin["id"]]
    assert listed[0]["scopes"] == ["inference"]
    table = mlx.run("key", "ls").stdout
    assert "laptop" in table
    assert made.stdout.strip() not in table + json.dumps(listed)
    assert said in mlx.run("key", "rm", "laptop").stdout
    assert admin["id"] in mlx.run("key", "rm", admin["id"]).stdout
    assert "no API keys" in mlx.run("key", "ls").stdout
    assert not (mlx.home / "mlxr.sock").exists()


def test_what_is_wrong_is_said(mlx):
    mlx.run("key", "create", "a")
    for arguments, words in (
        (("create", "a"), 'already a key called "a"'),
        (("rm", "b"), 'there is no key "b"'),
    ):
        failed = mlx.run("key", *arguments, check=False)
        assert failed.returncode == 1
        assert words in failed.stderr
        assert failed.stdout == ""
    assert mlx.run("key", check=False).returncode == 2
    (mlx.home / "keys.json").write_text('{"keys": [')
    for arguments in (("ls",), ("create", "c"), ("rm", "a")):
        failed = mlx.run("key", *arguments, check=False)
        assert failed.returncode == 1
        assert "keys.json is damaged" in failed.stderr


def test_the_command_line_needs_no_key(mlx):
    mlx.environment["MLXR_REQUIRE_API_KEY"] = "true"
    assert "mlxr-demo" in mlx.run("list").stdout
