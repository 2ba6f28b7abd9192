"""`headrace mount`, `unmount` and `mounts`, as scripts use them: real processes, real stores."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from headrace.cli.schemas import schema_of
from headrace_mounts.connect import connect
from headrace_mounts.settings import declare_mount
from headrace_namespace.path import NamespacePath
from tests.conftest import Bucket

CONFIG = """\
[cache]
folder = "cache"
state_folder = "state"
key_file = "key"
memory = "16MiB"
ssd = 0
"""
MOUNT = '[[mount]]\npath = "/data"\nurl = "data"\n'

#: Reads `/new/a` as soon as somebody mounts it, and says so when it has begun to wait for that.
WAITING = """\
import sys, time, headrace
tree = headrace.connect(sys.argv[1])
print("waiting", flush=True)
end = time.monotonic() + 60
while time.monotonic() < end:
    try:
        print(headrace.open("/new/a", "r", config=sys.argv[1]).read(), flush=True)
        break
    except FileNotFoundError:
        time.sleep(0.01)
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "data/sub").mkdir(parents=True)
    (tmp_path / "data/a").write_bytes(b"hello")
    (tmp_path / "data/sub/b").write_bytes(b"below")
    (tmp_path / "headrace.toml").write_text(CONFIG)
    return tmp_path


def run(site: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "headrace", "--config", str(site / "headrace.toml"), *arguments],
        capture_output=True,
        cwd=site,
        env={"PATH": os.environ["PATH"], "HOME": str(site / "home"), **environ},
        text=True,
        check=False,
    )


def out(site: Path, *arguments: str, **environ: str) -> str:
    done = run(site, *arguments, **environ)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def facts(site: Path, *arguments: str) -> list[Any]:
    return [json.loads(line) for line in out(site, *arguments, "--json").splitlines()]


def fault(site: Path, code: int, *arguments: str, **environ: str) -> str:
    done = run(site, *arguments, **environ)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("headrace: ")
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_tree_without_mounts_says_how_to_begin(site: Path) -> None:
    for command in ("ls", "mounts"):
        done = run(site, command)
        assert done.returncode == 0
        assert "nothing is mounted yet: headrace mount /data /srv/data" in done.stderr
    assert "nothing is mounted yet" in fault(site, 4, "cat", "/data/a")


def test_a_folder_is_mounted_shown_read_and_unmounted(site: Path) -> None:
    assert out(site, "mount", "/new/", "data", "--tag", "team=a", "--ttl", "7d") == "mounted /new\n"
    assert out(site, "cat", "/new/a") == "hello"
    expected = {
        "path": "/new",
        "url": str(site / "data"),  # whole: the next command may run in another folder
        "freshness": "check",
        "tags": ["team=a"],
        "read_only": False,
        "ttl": 604800.0,
        "source": "run time",
    }
    assert facts(site, "mounts") == [expected]
    shown = out(site, "mounts").splitlines()
    assert shown[0].split() == ["path", "url", "freshness", "tags", "writes", "from"]
    assert shown[1].endswith("run time")
    assert facts(site, "unmount", "/new") == [expected]
    assert "nothing is mounted at /new" in fault(site, 4, "unmount", "/new")


def test_what_is_printed_is_what_the_schemas_promise(site: Path) -> None:
    (site / "headrace.toml").write_text(MOUNT + CONFIG)
    for command, *arguments in (("mount", "/new", "data/sub"), ("mounts",), ("unmount", "/new")):
        done = run(site, command, *arguments, "--json")
        schema = schema_of(command)
        assert schema is not None
        for line in done.stdout.splitlines():
            assert set(json.loads(line)) == set(schema["required"])


def test_mounts_of_the_file_and_of_run_time_stand_together(site: Path) -> None:
    (site / "headrace.toml").write_text(MOUNT + 'read_only = true\nttl = "1h"\n' + CONFIG)
    done = run(site, "mount", "/new", "data/sub", "--freshness", "30s", "--json")
    assert done.returncode == 0
    assert done.stderr == (
        "note: /data and /new may reach the same objects; rules of either hold for both\n"
    )
    assert json.loads(done.stdout)["same_objects"] == ["/data"]
    table = {mount["path"]: mount for mount in facts(site, "mounts")}
    source = str(site / "headrace.toml") + ", line 1"
    assert (table["/data"]["source"], table["/data"]["ttl"]) == (source, 3600.0)
    assert table["/data"]["read_only"] is True
    assert table["/new"]["freshness"] == "30s"
    said = fault(site, 2, "unmount", "/data")
    assert "it stands in" in said and "headrace.toml, line 1" in said and "[[mount]]" in said


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["/data", "data"], 1, "/data is mounted already"),
        (["/data/a", "data"], 1, "/data/a is a file"),
        (["/data/sub", "data"], 1, "--over"),
        (["/new", "none"], 4, "none does not exist"),
        (["/new", "."], 2, "headrace keeps its own files"),
        (["/new", "headrace:///data"], 2, "leads back into the tree"),
        (["/new", "s3:bucket"], 2, "is not a whole URL"),
        (["/new", "sftp://host/x"], 2, "no backend knows"),
        (["/new", "s3://key:hunter2@bucket"], 2, "must not carry credentials"),
        (["/new", "data", "-o", "speed=9"], 2, "mount /new: options.speed: is not a known key"),
        (["/new", "data", "-o", "hunter2"], 2, "write it like KEY=VALUE"),
        (["/new", "data", "-o", "a=1", "-o", "a=2"], 2, "a is given twice"),
        (["/new", "data", "--tag", "pii"], 2, "'pii' is not a tag"),
        (["/new", "data", "--ttl", "0"], 2, "leave it out"),
        (["/new", "data", "--freshness", "often"], 2, "check, pinned or an age"),
        (["/new", "${NOWHERE}/x"], 2, "NOWHERE is not set"),
        (["/../x", "data"], 2, "above the root"),
        (["/new"], 2, "URL"),
    ],
)
def test_what_is_wrong_is_one_clear_error(
    arguments: list[str], code: int, sentence: str, site: Path
) -> None:
    (site / "headrace.toml").write_text(MOUNT + CONFIG)
    said = fault(site, code, "mount", *arguments)
    assert sentence in said
    assert "hunter2" not in said
    assert [mount["path"] for mount in facts(site, "mounts")] == ["/data"]


def test_without_a_state_folder_nothing_is_mounted(site: Path) -> None:
    text = CONFIG.replace('"state"', '"headrace.toml/state"')
    (site / "headrace.toml").write_text(MOUNT + text)
    done = run(site, "mount", "/new", "data")
    assert (done.returncode, done.stdout) == (2, "")
    assert "name another state_folder" in done.stderr.splitlines()[-1]
    assert run(site, "cat", "/data/a").stdout == "hello"


def test_over_hides_a_folder(site: Path) -> None:
    (site / "headrace.toml").write_text(MOUNT + CONFIG)
    (site / "other").mkdir()
    (site / "other/b").write_bytes(b"above")
    out(site, "mount", "/data/sub", "other", "--over")
    assert out(site, "cat", "/data/sub/b") == "above"
    out(site, "unmount", "/data/sub")
    assert out(site, "cat", "/data/sub/b") == "below"


def test_a_process_that_runs_already_sees_a_mount_of_another(site: Path) -> None:
    waiting = subprocess.Popen(
        [sys.executable, "-c", WAITING, str(site / "headrace.toml")],
        stdout=subprocess.PIPE,
        cwd=site,
        env={"PATH": os.environ["PATH"], "HOME": str(site / "home")},
        text=True,
    )
    with waiting:
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == "waiting\n"
        out(site, "mount", "/new", "data")
        assert waiting.stdout.read() == "hello\n"
    assert waiting.returncode == 0


def test_a_process_keeps_its_one_service_whatever_is_mounted(site: Path) -> None:
    config = str(site / "headrace.toml")
    service = connect(config)
    written = {"path": "/new", "url": str(site / "data")}
    service.add_mount(declare_mount(written))
    assert connect(config) is service
    assert [mount.path.text for mount in connect(config).mounts()] == ["/new"]
    service.remove_mount(NamespacePath.parse("/new"))
    assert service.mounts() == ()


def test_a_bucket_is_mounted_and_no_secret_is_kept(site: Path, bucket: Bucket) -> None:
    bucket.put("p/a", b"in s3")
    environ = {"MY_KEY": bucket.access_key, "MY_SECRET": bucket.secret_key, "HOST": bucket.endpoint}
    given = ("-o", "key_env=MY_KEY", "-o", "secret_env=MY_SECRET", "-o", "max_attempts=2")
    place = ("-o", "endpoint_url=${HOST}")
    out(site, "mount", "/b", f"s3://{bucket.name}/p", *given, *place, **environ)
    assert out(site, "cat", "/b/a", **environ) == "in s3"
    kept = b"".join(file.read_bytes() for file in (site / "state").iterdir())
    assert b"${HOST}" in kept and b"MY_SECRET" in kept
    assert bucket.secret_key.encode() not in kept and bucket.endpoint.encode() not in kept
    # A process without the variables has the other mounts, and says what is missing.
    (site / "headrace.toml").write_text(MOUNT + CONFIG)
    done = run(site, "cat", "/data/a")
    assert (done.returncode, done.stdout) == (0, "hello")
    assert "the environment variable HOST is not set" in fault_line(run(site, "ls", "/b"))
    # Nothing lies below the prefix yet.
    done = run(site, "mount", "/e", f"s3://{bucket.name}/empty", *given, *place, **environ)
    assert done.returncode == 0
    assert "note: nothing lies there yet; the first write makes it" in done.stderr
    wrong = {**environ, "MY_SECRET": "wrong"}
    done = run(site, "mount", "/w", f"s3://{bucket.name}", *given, *place, **wrong)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def fault_line(done: subprocess.CompletedProcess[str]) -> str:
    """The last line on standard error, of a command that failed for its configuration."""
    assert done.returncode == 2
    return done.stderr.splitlines()[-1]
