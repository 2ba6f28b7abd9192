"""`tree` and `du`: everything below a folder, streamed."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
from pathlib import Path

import pytest

from headrace.cli.survey import Walk
from headrace_namespace.path import NamespacePath
from tests.fakes.local_cache import Rig
from tests.fakes.memory_backend import MemoryBackend
from tests.mounts.command_line import Site, make_site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = make_site(tmp_path)
    for name, size in (("a", 10), ("d/b", 100), ("d/e/c", 1000), ("z", 1)):
        site.write(name, bytes(size))
    return site


def test_tree_is_plain_in_a_pipe_and_drawn_on_a_terminal(site: Site) -> None:
    assert site.out("tree", "/data").splitlines() == [
        "/data",
        "  a",
        "  d/",
        "    b",
        "    e/",
        "      c",
        "  z",
        "",
        "2 folders, 4 objects",
    ]
    reading, writing = pty.openpty()
    process = subprocess.Popen(site.command("tree", "/data"), stdout=writing, env=site.env)
    os.close(writing)
    shown = io.BytesIO()
    try:
        while piece := os.read(reading, 4096):
            shown.write(piece)
    except OSError:
        pass  # the terminal ends with its last writer
    finally:
        os.close(reading)
    assert process.wait() == 0
    lines = shown.getvalue().decode().split("\r\n")
    assert lines[1:7] == ["├── a", "├── d/", "│   ├── b", "│   └── e/", "│       └── c", "└── z"]


def test_tree_goes_as_deep_as_it_is_told(site: Site) -> None:
    paths = [entry["path"] for entry in site.lines("tree", "/data", "--depth", "1")]
    assert paths == ["/data/a", "/data/d", "/data/z"]
    everything = [entry["path"] for entry in site.lines("tree", "/")]
    assert everything[0] == "/data"
    assert len(everything) == 8


def test_du_sums_each_folder_after_those_below(site: Site) -> None:
    sums = [(e["path"], e["size"], e["objects"]) for e in site.lines("du", "/data")]
    assert sums == [("/data/d/e", 1000, 1), ("/data/d", 1100, 2), ("/data", 1111, 4)]
    (only,) = site.lines("du", "-s", "/data/d")
    assert (only["path"], only["size"]) == ("/data/d", 1100)
    (file,) = site.lines("du", "/data/a")
    assert (file["type"], file["size"], file["objects"]) == ("file", 10, 1)
    assert site.out("du", "-sh", "/data").split() == ["1.1", "KiB", "4", "/data"]


def test_links_that_lead_in_a_circle_are_not_followed(site: Site) -> None:
    os.symlink("..", site.root / "data/d/up")
    assert [e["path"] for e in site.lines("tree", "/data")].count("/data/d/up") == 1
    assert site.lines("du", "-s", "/data")[0]["objects"] == 4
    assert site.json("warm", "/data", "/data/**")["objects"] == 8


def test_a_folder_that_is_refused_is_named_and_the_rest_is_shown(site: Site) -> None:
    site.write("denied/x")
    for command in ("tree", "du"):
        done = site.run(command, "/", "--json")
        assert done.returncode == 3
        assert b"/gov/denied" in done.stderr
        paths = [json.loads(line)["path"] for line in done.stdout.splitlines()]
        assert "/data/d/e" in paths
    assert site.run("tree", "/data/none").returncode == 4
    assert site.run("du", "/data/none").returncode == 4


def test_a_folder_of_many_objects_is_summed_as_it_comes() -> None:
    """The listing is never held: the next page is asked for only when this one was counted."""
    lake = MemoryBackend("memory:lake", page_children=100)
    for number in range(1000):
        lake.set(f"many/{number:04}", b"xy")
    lake.set("many/-below/x", b"z")
    rig = Rig({"/lake": lake})
    walk = Walk(rig.service, None)
    sums = walk.sums(NamespacePath.parse("/lake/many"))
    first = next(sums)
    assert first[0].path.text == "/lake/many/-below"
    assert lake.asked["list"] < 10
    entry, size, objects = next(sums)
    assert (entry.path.text, size, objects) == ("/lake/many", 2001, 1001)
    rig.service.close()


def test_folders_may_be_nested_deeper_than_python_calls() -> None:
    lake = MemoryBackend("memory:lake")
    lake.set("/".join("d" * 1500) + "/x", b"1")
    rig = Rig({"/lake": lake})
    root = NamespacePath.parse("/lake")
    assert sum(1 for _ in Walk(rig.service, None).entries(root)) == 1501
    assert [s for _, s, _ in Walk(rig.service, None).sums(root)] == [1] * 1501
    rig.service.close()


def test_an_error_of_one_path_ends_only_that_one(site: Site) -> None:
    site.write("denied/x")
    for command in ("stat", "cat", "du", "mkdir"):
        good = ["/data/m", "/data/n"] if command == "mkdir" else ["/data/a", "/data/z"]
        done = site.run(command, good[0], "/data/none/x", good[1], "/data/none/y")
        assert done.returncode == 4, done.stderr
        first, second = done.stderr.splitlines()
        assert b"/data/none/x" in first and b"/data/none/y" in second
        if command == "mkdir":
            assert (site.root / "data/m").is_dir() and (site.root / "data/n").is_dir()
        elif command == "cat":
            assert done.stdout == bytes(11)
        else:
            assert done.stdout.count(b"/data/a") == done.stdout.count(b"/data/z") == 1
        mixed = site.run(command, "/data/none/x", "/gov/denied/x")
        assert mixed.returncode == 1, (command, mixed.stderr)
