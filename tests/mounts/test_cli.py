"""The command line as scripts see it: output, JSON, exit codes. Real processes over real files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import headrace
from headrace.cli.printing import escaped

CONFIG = """\
[[mount]]
path = "/data"
url = "data"
tags = ["team=a"]
[cache]
folder = "cache"
key_file = "key"
memory = "16MiB"
ssd = "64MiB"
[policy]
file = "policy.toml"
"""
POLICY = """\
version = 1
epoch = 7
[default]
persistence = "sealed-ssd"
[[rule]]
name = "secret"
match.path = ["/data/secret/**"]
apply.persistence = "deny"
"""
WILD = "new\nline\x1b[31m\udcff"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    (data / "secret").mkdir(parents=True)
    (data / "a.txt").write_bytes(b"hello world")
    (data / "secret/pay.csv").write_bytes(b"1")
    (data / WILD).write_bytes(b"")
    (tmp_path / "headrace.toml").write_text(CONFIG)
    (tmp_path / "policy.toml").write_text(POLICY)
    return tmp_path


def command(site: Path, *arguments: str, config: bool = True) -> list[str]:
    given = ["--config", str(site / "headrace.toml")] if config else []
    return [sys.executable, "-m", "headrace", *given, *arguments]


def run(site: Path, *arguments: str, config: bool = True) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        command(site, *arguments, config=config),
        capture_output=True,
        cwd=site,
        env={"PATH": os.environ["PATH"], "HOME": str(site / "home")},
        check=False,
    )


def out(site: Path, *arguments: str) -> str:
    done = run(site, *arguments)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode()


def lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def test_ls_shows_names_that_cannot_fool_a_terminal(site: Path) -> None:
    assert out(site, "ls", "/").splitlines() == ["data/"]
    assert out(site, "ls", "/data").splitlines() == [
        "a.txt",
        "new\\nline\\x1b[31m\\udcff",
        "secret/",
    ]
    long = out(site, "ls", "-l", "headrace:///data/a.txt")
    assert long.split()[0] == "11"
    assert "a.txt" in long


def test_json_keeps_every_name_exactly(site: Path) -> None:
    entries = lines(out(site, "ls", "--json", "/data"))
    assert [entry["path"] for entry in entries] == ["/data/a.txt", f"/data/{WILD}", "/data/secret"]
    keys = {"path", "type", "size", "mtime", "version", "strong", "mount"}
    assert all(set(entry) == keys for entry in entries)
    (stated,) = lines(out(site, "stat", "--json", f"/data/{WILD}"))
    assert stated == entries[1]
    assert (stated["type"], stated["size"], stated["mount"]) == ("file", 0, "/data")


def test_cat_writes_the_bytes(site: Path) -> None:
    big = bytes(range(256)) * 70_000  # More than two of the pieces that cat writes.
    (site / "data/big").write_bytes(big)
    assert run(site, "cat", "/data/a.txt", "/data/big").stdout == b"hello world" + big
    assert run(site, "cat", "--offset", "6", "--length", "3", "/data/a.txt").stdout == b"wor"
    assert run(site, "cat", "--offset", "1MiB", "/data/a.txt").stdout == b""


def test_mounts_and_status(site: Path) -> None:
    (mount,) = lines(out(site, "mounts", "--json"))
    shown = {"path": "/data", "url": "data", "freshness": "check", "tags": ["team=a"]}
    assert mount.items() >= shown.items()
    assert "team=a" in out(site, "mounts")
    out(site, "cat", "/data/a.txt")
    (now,) = lines(out(site, "status", "--json"))
    counts = {"hits", "misses", "bytes_fetched", "bytes_served", "requests"}
    assert set(now) == {"node", "tiers", "since", "hit_ratio", "bytes_saved", "process", *counts}
    assert set(now["process"]) == counts
    assert set(now["tiers"]) == {"memory", "ssd"}
    assert now["tiers"]["ssd"]["objects"] == 1
    assert now["tiers"]["memory"]["limit"] == 16 << 20
    printed = out(site, "status").splitlines()
    assert [line.split()[0] for line in printed[:3]] == ["tier", "memory", "ssd"]


def test_a_tier_that_is_off_says_so(site: Path) -> None:
    text = (site / "headrace.toml").read_text()
    (site / "headrace.toml").write_text(text.replace('"64MiB"', "0"))
    (now,) = lines(out(site, "status", "--json"))
    assert set(now["tiers"]) == {"memory"}
    assert out(site, "status").splitlines()[2].split() == ["ssd", "off", "-", "-", "-"]


def test_policy_check_needs_no_configuration(site: Path) -> None:
    file = str(site / "policy.toml")
    done = run(site, "policy", "check", "--json", file, config=False)
    assert done.returncode == 0
    assert json.loads(done.stdout) == {"file": file, "epoch": 7, "rules": ["secret"], "ok": True}
    wrong = site / "wrong.toml"
    wrong.write_text(POLICY.replace("match.path", "match.paht"))
    done = run(site, "policy", "check", "--json", str(wrong), config=False)
    assert done.returncode == 2
    assert json.loads(done.stdout)["ok"] is False
    assert b"wrong.toml, line 7" in done.stderr
    assert b"did you mean 'path'" in done.stderr


def test_policy_check_reads_a_file_as_the_settings_do(site: Path) -> None:
    marked = site / "marked.toml"
    marked.write_text(POLICY, "utf-8-sig")
    assert run(site, "policy", "check", str(marked)).returncode == 0
    done = run(site, "policy", "check", "/dev/zero")
    assert done.returncode == 2
    assert b"more than" in done.stderr


def test_policy_explain(site: Path) -> None:
    (said,) = lines(out(site, "policy", "explain", "--json", "/data/secret/pay.csv"))
    assert set(said) == {
        "path",
        "persistence",
        "metadata",
        "guarantee",
        "readers",
        "served",
        "rules",
    }
    assert (said["persistence"], said["served"]) == ("deny", False)
    assert [rule["name"] for rule in said["rules"] if "secret" in rule["why"]] == ["secret"]
    assert "deny" in out(site, "policy", "explain", "/data/secret/pay.csv")


@pytest.mark.parametrize(("accepted", "served"), [("", False), ("unattested", True)])
def test_policy_explain_says_what_the_reader_then_does(
    site: Path, accepted: str, served: bool
) -> None:
    demand = f'apply.guarantee = "{accepted}"\n' if accepted else ""
    changed = POLICY.replace('"deny"', '"memory-only"') + demand
    (site / "policy.toml").write_text(changed)
    path = "/data/secret/pay.csv"
    (said,) = lines(out(site, "policy", "explain", "--json", path))
    assert said["served"] is served
    assert run(site, "cat", path).returncode == (0 if served else 3)
    shown = out(site, "policy", "explain", path)
    assert ("attested to G1" in shown) is not served


@pytest.mark.parametrize(
    "arguments",
    [
        ["ls", "--config", "headrace.toml", "/data"],
        ["--debug", "ls", "/data", "--config=headrace.toml"],
        ["policy", "explain", "/data", "--config", "headrace.toml"],
        ["--config", "none.toml", "ls", "--config", "headrace.toml", "--debug"],
    ],
)
def test_global_options_may_follow_the_command(site: Path, arguments: Sequence[str]) -> None:
    done = run(site, *arguments, config=False)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["cat", "/data/none"], 4, "/data/none"),
        (["ls", "/none"], 4, "/none"),
        (["cat", "/data/secret/pay.csv"], 3, "/data/secret/pay.csv"),
        (["cat", "/data"], 1, "folder"),
        (["ls", "/../x"], 2, "above the root"),
        (["lss"], 2, "headrace --help"),
        (["ls", "--josn"], 2, "headrace ls --help"),
        (["cat", "--length", "much", "/data/a.txt"], 2, "--length"),
        (["--config", "none.toml", "ls"], 2, "none.toml"),
        (["policy", "check", "none.toml"], 2, "none.toml"),
    ],
)
def test_exit_codes(arguments: Sequence[str], code: int, sentence: str, site: Path) -> None:
    done = run(site, *arguments)
    assert done.returncode == code
    said = done.stderr.decode()
    assert said.startswith("headrace: ")
    assert sentence in said
    assert "Traceback" not in said
    assert done.stdout == b""


@pytest.mark.parametrize(
    ("arguments", "instead"),
    [
        (("top",), "read that node's /metrics"),
        (("node",), "[node.http] says where it listens"),
        (("node", "--check"), "GET its /readyz"),
        (("demo",), "leave it out"),
        (("policy", "check", "policy.toml"), "use policy explain"),
    ],
)
def test_a_command_that_asks_no_other_node_refuses_one(
    arguments: Sequence[str], instead: str, site: Path
) -> None:
    done = run(site, *arguments, "--node", "cache.example.org:7070")
    said = done.stderr.decode()
    assert done.returncode == 2 and said.count("\n") == 1
    assert "--node is for reading from a node of another host" in said and instead in said


def test_without_a_configuration_it_shows_how_to_begin(site: Path) -> None:
    done = run(site, "ls", config=False)
    assert done.returncode == 2
    assert b"give --config headrace.toml" in done.stderr
    (site / "headrace.toml").unlink()
    done = run(site, "ls", config=False)
    assert done.returncode == 2
    assert b"\n  --config\n  HEADRACE_CONFIG" in done.stderr
    assert b'[[mount]]\npath = "/data"' in done.stderr


def test_debug_shows_where(site: Path) -> None:
    for arguments in (["--debug", "cat", "/data/none"], ["cat", "/data/none", "--debug"]):
        done = run(site, *arguments)
        assert done.returncode == 4
        assert b"Traceback" in done.stderr


def test_a_reader_that_has_seen_enough_is_no_fault(site: Path) -> None:
    (site / "data/big").write_bytes(bytes(20 << 20))
    process = subprocess.Popen(
        command(site, "cat", "/data/big"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.read(10) == bytes(10)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 141


def test_a_pipe_that_nobody_reads_is_no_fault(site: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            command(site, "mounts"), stdout=writing, stderr=subprocess.PIPE, check=False
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


def test_output_that_cannot_be_written_is_named(site: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            command(site, "mounts"), stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 1
    assert done.stderr == b"headrace: standard output cannot be written: No space left on device\n"


@pytest.mark.parametrize(("closed", "code", "said"), [("1>&-", 1, b"is closed"), ("2>&-", 0, b"")])
def test_a_closed_stream_is_no_fault(site: Path, closed: str, code: int, said: bytes) -> None:
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}', "sh", *command(site, "mounts")],
        capture_output=True,
        check=False,
    )
    assert done.returncode == code
    assert said in done.stderr
    assert b"fault in headrace" not in done.stderr


def test_ctrl_c_while_the_program_is_loaded_is_answered(site: Path) -> None:
    program = (
        "import sys\n"
        "from headrace.cli.main import main\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name == 'click':\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        "sys.exit(main(['ls']))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (130, b"headrace: interrupted\n")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["ls"],
        ["stat"],
        ["cat"],
        ["mounts"],
        ["status"],
        ["policy"],
        ["policy", "check"],
        ["policy", "explain"],
        ["demo"],
    ],
)
def test_every_command_has_help(arguments: Sequence[str], site: Path) -> None:
    done = run(site, *arguments, "--help", config=False)
    assert done.returncode == 0
    assert arguments == ["policy"] or b"Example" in done.stdout


def test_version(site: Path) -> None:
    assert out(site, "--version").startswith("headrace, version ")


def test_importing_headrace_stays_light(site: Path) -> None:
    program = (
        "import sys, headrace; heavy = {'botocore', 'pandas', 'pyarrow', 'fsspec', 'lmdb', 'rich'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.strip() == b"[]"


def test_every_public_name_is_there() -> None:
    for name in headrace.__all__:
        assert getattr(headrace, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'NoSuchName'"):
        _ = headrace.NoSuchName


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain näme", "plain näme"),
        ("a\\nb", "a\\\\nb"),
        ("a\nb", "a\\nb"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\u202egpj", "\\u202egpj"),
        ("\udc80", "\\udc80"),
    ],
)
def test_escaped_is_one_printable_line_and_exact(text: str, shown: str) -> None:
    assert escaped(text) == shown
    assert escaped(text).isprintable()
