"""Errors of a node of another host name their paths as the user knows them, by every way in; in
`.path` stands the path in the tree."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from headrace_mounts.connect import connect_node, disconnect_all, open_node
from headrace_mounts.fsspec_fs import HeadraceFileSystem
from headrace_namespace.errors import HeadraceError, NotFound, StoreUnavailable, VersionGone
from headrace_namespace.path import NamespacePath
from tests.mounts.test_remote_node import command

MIB = 1 << 20
POLICY = """
version = 1
[[rule]]
name = "payroll"
match.path = ["/lake/hr/**"]
apply.persistence = "memory-only"
apply.guarantee = "unattested"
[[rule]]
name = "closed"
match.path = ["/lake/closed/**"]
apply.persistence = "deny"
"""


@pytest.fixture
def silo(tmp_path: Path) -> Path:
    silo = tmp_path / "silo"
    for folder in ("hr", "closed", "full"):
        (silo / folder).mkdir(parents=True)
        (silo / folder / "a").write_bytes(b"bytes")
    (silo / "large").write_bytes(b"x" * 4 * MIB)
    return silo


@pytest.fixture
def node(silo: Path, tmp_path: Path) -> Iterator[str]:
    (tmp_path / "policy.toml").write_text(POLICY)
    (tmp_path / "headrace.toml").write_text(
        '[[mount]]\npath = "/lake"\nurl = "silo"\n[cache]\nfolder = "cache"\nkey_file = "key"\n'
        'state_folder = "state"\nmemory = "64MiB"\nssd = "0"\n[policy]\nfile = "policy.toml"\n'
        '[node.http]\nlisten = "127.0.0.1:0"\ntls = false\nauthentication = false\n'
    )
    with closing(open_node(tmp_path / "headrace.toml")) as running:
        assert running.door is not None
        yield f"127.0.0.1:{running.door.port}"
        disconnect_all()


def named(error: HeadraceError, node: str, path: str) -> bool:
    return f"headrace://{node}{path}" in str(error) and error.path == path


CALLS: list[tuple[str, Callable[[Any], object]]] = [
    ("/lake/none", lambda tree: tree.open("/lake/none")),
    ("/lake/none", lambda tree: tree.info("/lake/none")),
    ("/lake/none", lambda tree: tree.ls("/lake/none")),
    ("/lake/none", lambda tree: tree.rm_file("/lake/none/")),
    ("/lake/none", lambda tree: tree.copy("/lake/none", "/lake/x")),
    ("/lake/none", lambda tree: tree.service.why(NamespacePath("/lake/none"))),
    ("/lake/hr", lambda tree: tree.open("/lake/hr")),
    ("/lake/hr", lambda tree: tree.rm_file("/lake/hr")),
    ("/lake/hr", lambda tree: tree.modified("/lake/hr")),
    ("/lake/hr/a", lambda tree: tree.get_file("/lake/hr/a", "/nowhere")),
    ("/lake/hr/a/b", lambda tree: tree.mkdir("/lake/hr/a/b")),
    ("/lake/closed/a", lambda tree: tree.open("/lake/closed/a")),
    ("/lake/closed/a", lambda tree: tree.pipe_file("/lake/closed/a", b"x")),
    ("/lake/full", lambda tree: tree.rmdir("/lake/full")),
    ("/lake/full", lambda tree: tree.pipe_file("/lake/full", b"x")),
    ("/lake/large", lambda tree: tree.open("/lake/large", "xb")),
    ("/lake", lambda tree: tree.rm("/lake", recursive=True)),
    ("/lake/hr/b", lambda tree: tree.mv("/lake/hr", "/lake/hr/b", recursive=True)),
    ("/none", lambda tree: tree.open("/none")),
]


@pytest.mark.parametrize("number", range(len(CALLS)))
def test_an_error_names_the_node_and_keeps_the_path(node: str, number: int) -> None:
    path, call = CALLS[number]
    tree: Any = HeadraceFileSystem(node=node, tls=False, config={})
    with pytest.raises(HeadraceError) as caught:
        call(tree)
    assert named(caught.value, node, path), str(caught.value)


@pytest.mark.parametrize("start", [0, MIB])
def test_a_version_that_is_gone_is_named_so(node: str, silo: Path, start: int) -> None:
    service = connect_node(node, {"tls": False}, {})
    with closing(service.open(NamespacePath("/lake/large"))) as opened:
        (silo / "large").write_bytes(b"y" * 3 * MIB)
        with pytest.raises(VersionGone) as caught:
            opened.read_at(start, start + MIB)
        assert named(caught.value, node, "/lake/large")
        assert str(caught.value).count("headrace://") == 1
    with closing(service.open(NamespacePath("/lake/large"))) as opened:
        (silo / "large").unlink()
        with pytest.raises(VersionGone) as caught:
            opened.read_at(start, start + MIB)
        assert named(caught.value, node, "/lake/large")


def test_of_several_each_is_named(node: str) -> None:
    service = connect_node(node, {"tls": False}, {})
    wrong = service.delete([NamespacePath("/lake/closed/a"), NamespacePath("/lake/hr")])
    assert wrong
    for path, error in wrong.items():
        assert named(error, node, path.text)


def test_a_node_that_is_not_there_is_told_with_what_was_asked_of_it() -> None:
    service = connect_node("127.0.0.1:1", {"tls": False}, {})
    path = NamespacePath("/lake/a")
    calls: list[Callable[[NamespacePath], object]] = [
        service.stat,
        service.open,
        lambda path: list(service.list(path)),
    ]
    for call in calls:
        with pytest.raises(StoreUnavailable) as caught:
            call(path)
        assert named(caught.value, "127.0.0.1:1", "/lake/a")
        assert "nothing listens at http://127.0.0.1:1" in str(caught.value)


def test_the_tree_of_this_host_is_named_as_ever(node: str, tmp_path: Path) -> None:
    tree: Any = HeadraceFileSystem(config=str(tmp_path / "headrace.toml"))
    with pytest.raises(NotFound) as caught:
        tree.open("/lake/none")
    assert "headrace://" not in str(caught.value)
    disconnect_all()


def test_the_command_line_names_it_alike(node: str, tmp_path: Path) -> None:
    job = tmp_path / "job.toml"
    job.write_text(f'[[remote]]\naddress = "{node}"\ntls = false\n')

    def said(*words: str) -> list[str]:
        asked = ("--config", str(job), "--node", node, *words)
        return command(*asked, home=tmp_path).stderr.splitlines()

    url = f"headrace://{node}"
    (line,) = said("ls", "/lake/none")
    assert line.startswith(f"headrace: {url}/lake/none") and line.count(url) == 1
    lines = said("cat", "/lake/none", "/lake/hr")
    assert [line.split()[1].rstrip(":") for line in lines] == [f"{url}/lake/none", f"{url}/lake/hr"]
    assert said("rm", "/lake/hr") == [f"headrace: {url}/lake/hr is a folder (give -r)"]
    (line,) = said("warm", "/lake/none*")
    assert line == f"headrace: nothing matches {url}/lake/none*"
    # A file of this machine is none of the node's.
    (line,) = said("put", str(tmp_path / "none"), "/lake/x")
    assert line == f"headrace: there is no file {tmp_path / 'none'} on this machine"
