"""`cp`, `mv`, `rm`, `mkdir`, `put` and `get`: what is there afterwards, and what is refused."""

from __future__ import annotations

import os
import pty
import select
import subprocess
from pathlib import Path

import pytest

from headrace.cli.failures import sentence
from headrace_namespace.errors import NotFound
from tests.mounts.command_line import Site, make_site

#: Far above what it takes, for machines that do much else.
PATIENCE_SECONDS = 60


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = make_site(tmp_path)
    for name in ("a", "d/b", "d/e/c"):
        site.write(name, name.encode())
    return site


def paths(site: Site, folder: str = "/data") -> list[str]:
    return [e["path"] for e in site.lines("tree", folder) if e["type"] == "file"]


def test_cp_copies_objects_and_folders(site: Site) -> None:
    said = site.json("cp", "/data/a", "/data/a2")
    assert (said["objects"], said["bytes"], said["failed"]) == (1, 1, [])
    assert site.json("cp", "-r", "/data/d", "/data/new")["objects"] == 2
    assert site.json("cp", "-r", "/data/d", "/data/a", "/data/new/")["objects"] == 3
    assert paths(site, "/data/new") == [
        "/data/new/a",
        "/data/new/b",
        "/data/new/d/b",
        "/data/new/d/e/c",
        "/data/new/e/c",
    ]
    assert site.out("cat", "/data/new/d/e/c") == "d/e/c"


def test_no_clobber_leaves_what_is_there(site: Site) -> None:
    site.write("there", b"old")
    assert site.json("cp", "-n", "/data/a", "/data/there")["objects"] == 0
    assert site.json("mv", "-n", "/data/a", "/data/there")["objects"] == 0
    (site.root / "local").write_bytes(b"new")
    assert site.json("put", "-n", "local", "/data/there")["objects"] == 0
    assert site.json("get", "-n", "/data/there", "local")["objects"] == 0
    assert site.out("cat", "/data/there") == "old"
    assert (site.root / "local").read_bytes() == b"new"
    assert site.json("cp", "/data/a", "/data/there")["objects"] == 1
    assert site.out("cat", "/data/there") == "a"


def test_mv_renames_and_moves(site: Site) -> None:
    site.out("mv", "/data/a", "/data/z")
    site.out("mv", "/data/d", "/data/moved")
    assert paths(site) == ["/data/moved/b", "/data/moved/e/c", "/data/z"]


def test_an_exact_target_is_merged_and_never_gone_into(site: Site) -> None:
    site.write("new/own", b"own")
    site.write("new/b", b"old")
    site.out("cp", "-rnT", "/data/d", "/data/new")
    assert site.out("cat", "/data/new/b") == "old"
    site.out("mv", "-T", "/data/d", "/data/new")
    assert paths(site, "/data/new") == ["/data/new/b", "/data/new/e/c", "/data/new/own"]
    assert site.out("cat", "/data/new/b") == "d/b"
    assert not (site.root / "data/d").exists()
    site.out("get", "-rT", "/data/new", ".")
    assert (site.root / "e/c").read_bytes() == b"d/e/c"
    site.out("put", "-rT", "e", "/data/new")
    assert site.out("cat", "/data/new/c") == "d/e/c"
    assert site.run("cp", "-T", "/data/a", "/data/new/b", "/data/z").returncode == 2


def test_what_was_done_in_part_tells_how_to_go_on(site: Site) -> None:
    (site.root / "data/d/dangling").symlink_to("e")
    done = site.run("cp", "-r", "/data/d", "/data/new x")
    assert done.returncode != 0
    told = done.stderr.decode().splitlines()[-1]
    assert told.startswith("headrace: go on with: headrace --config ")
    assert told.endswith(" cp -r -n -T /data/d '/data/new x'")


def test_what_is_wrong_with_the_places_is_said_once(site: Site) -> None:
    for arguments, code, said in (
        (["put", "/nonexist", "/data/x"], 4, "there is no file /nonexist on this machine"),
        (["put", "/nonexist"], 2, "Missing argument 'TARGET': say where /nonexist is to go"),
        (["cp", "/data/a"], 2, "Missing argument 'TARGET': say where /data/a is to go"),
        (["mv", "/data/none", "/data/x"], 4, "/data/none"),
        (["ls", "/data/none"], 4, "/data/none"),
    ):
        done = site.run(*arguments)
        assert done.returncode == code, done.stderr
        assert done.stderr.decode().startswith(f"headrace: {said}")
        assert done.stderr.count(b"\n") == 1
    store = "/srv/data/none"
    assert sentence("/data/none", NotFound(f"{store} is not there")).startswith("/data/none: ")
    assert sentence("/data/none", NotFound("/data/none.csv is")).startswith("/data/none: ")
    assert sentence("/data/none", NotFound("no '/data/none'.")) == "no '/data/none'."
    (site.root / "file").write_bytes(b"")
    done = site.run("get", "-r", "/data/d", "file")
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert b"/data/d is a folder, and file is a file" in done.stderr


def test_a_target_that_cannot_be_looked_at_is_a_failure_like_others(site: Site) -> None:
    (site.root / "local").write_bytes(b"1")
    for command, source in (("cp", "/data/a"), ("mv", "/data/a"), ("put", "local")):
        said = site.json(command, source, "/gov/denied/x", code=3)
        assert [failure["error"] for failure in said["failed"]] == ["PolicyDenied"]
    assert paths(site)[0] == "/data/a"


def test_rm_needs_r_for_folders_and_never_takes_a_mount(site: Site) -> None:
    folder = site.run("rm", "/data/d")
    assert folder.returncode == 1 and b"give -r" in folder.stderr
    for mount in ("/data", "/", "/gov"):
        refused = site.run("rm", "-rf", mount)
        assert refused.returncode == 2, refused.stderr
        assert b"mount" in refused.stderr
    assert site.run("mv", "/data", "/gov/x").returncode == 2
    assert site.run("rm", "/data/none").returncode == 4
    assert site.json("rm", "-f", "/data/none")["objects"] == 0
    said = site.json("rm", "-r", "/data/d", "/data/a")
    assert said["objects"] == 3
    assert os.listdir(site.root / "data") == []


def test_rm_asks_on_a_terminal_before_it_removes_much(site: Site) -> None:
    for number in range(1001):
        site.write(f"many/{number}")
    process, terminal = on_a_terminal(site, "rm", "-r", "/data/many")
    shown = b""
    while b"remove them? [y/N]" not in shown:
        assert select.select([terminal], [], [], PATIENCE_SECONDS)[0], shown
        shown += os.read(terminal, 4096)
    os.write(terminal, b"n\n")
    assert process.wait() == 1
    shown = os.read(terminal, 4096)
    assert b"nothing was removed" in shown and b"interrupted" not in shown
    os.close(terminal)
    assert len(os.listdir(site.root / "data/many")) == 1001
    site.out("rm", "-rf", "/data/many")
    assert not (site.root / "data/many").exists()


def on_a_terminal(site: Site, *arguments: str) -> tuple[subprocess.Popen[bytes], int]:
    reading, writing = pty.openpty()
    process = subprocess.Popen(
        site.command(*arguments), stdin=writing, stderr=writing, env=site.env
    )
    os.close(writing)
    return process, reading


def test_mkdir(site: Site) -> None:
    assert site.run("mkdir", "/data/x/y").returncode == 4
    assert site.lines("mkdir", "-p", "/data/x/y") == [{"path": "/data/x/y"}]
    assert site.run("mkdir", "/data/x").returncode == 1
    site.out("mkdir", "-p", "/data/x")
    assert (site.root / "data/x/y").is_dir()


def test_put_and_get_are_each_others_inverse(site: Site) -> None:
    local = site.root / "local"
    (local / "sub").mkdir(parents=True)
    big = os.urandom(20 << 20)
    (local / "big").write_bytes(big)
    (local / "sub/small").write_bytes(b"1")
    assert site.json("put", "-r", "local", "/data/put")["objects"] == 2
    assert (site.root / "data/put/big").read_bytes() == big
    assert site.json("get", "-r", "/data/put", "back")["bytes"] == len(big) + 1
    assert (site.root / "back/big").read_bytes() == big
    assert sorted(os.listdir(site.root / "back")) == ["big", "sub"]
    assert site.json("put", "local/big", "/data/put/")["objects"] == 1
    assert site.run("put", "local", "/data/p").returncode == 1
    assert site.run("put", "none", "/data/p").returncode == 4
    assert site.run("get", "/data/none", "x").returncode == 4
    site.out("put", "-", "/data/from-stdin", given=b"piped")
    assert site.out("cat", "/data/from-stdin") == "piped"


def test_get_refuses_what_may_not_be_on_a_disk(site: Site) -> None:
    site.write("hr/pay.csv", b"canary")
    refused = site.run("get", "/gov/hr/pay.csv", "pay.csv")
    assert refused.returncode == 3
    assert b"--to-disk" in refused.stderr
    assert not (site.root / "pay.csv").exists()
    site.out("get", "--to-disk", "/gov/hr/pay.csv", "pay.csv")
    assert (site.root / "pay.csv").read_bytes() == b"canary"


def test_a_restricted_object_is_not_copied_to_a_looser_place(site: Site) -> None:
    site.write("hr/pay.csv", b"canary")
    refused = site.run("cp", "/gov/hr/pay.csv", "/data/pay.csv")
    assert refused.returncode == 3
    assert site.run("rm", "/gov/denied/x").returncode == 3
    assert not (site.root / "data/pay.csv").exists()


@pytest.mark.parametrize("jobs", ["1", "64"])
def test_jobs_change_nothing_but_how_many_go_at_once(site: Site, jobs: str) -> None:
    assert site.json("cp", "-r", "/data/d", "/gov/c", "--jobs", jobs)["objects"] == 2
    (site.root / "gov/m").mkdir()
    (site.root / "gov/m/own").write_bytes(b"")
    assert site.json("mv", "-T", "/gov/c", "/gov/m", "--jobs", jobs)["objects"] == 2
    assert site.json("rm", "-r", "/gov/m", "--jobs", jobs)["objects"] == 3
    for number in range(100):
        site.write(f"d/n{number}", b"%d" % number)
    assert site.json("get", "-r", "/data/d", "out", "--jobs", jobs)["objects"] == 102
    assert (site.root / "out/n7").stat().st_mode == (site.root / "headrace.toml").stat().st_mode
    assert site.json("put", "-r", "out", "/gov/p", "--jobs", jobs)["objects"] == 102
    assert (site.root / "gov/p/n99").read_bytes() == b"99"
    assert site.run("rm", "-r", "/data/d", "--jobs", "0").returncode == 2
