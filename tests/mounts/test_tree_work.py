"""Whole folders removed, copied and moved: links, circles, interrupts, and what is refused."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import headrace
from headrace_mounts.connect import disconnect_all
from headrace_mounts.tree_work import copy_tree, move_tree, remove_tree
from headrace_namespace.path import NamespacePath
from tests.untyped import fsspec


def path(text: str) -> NamespacePath:
    return NamespacePath.parse(text)


@pytest.fixture
def forest(silo: Path, tmp_path: Path) -> Path:
    """A tree with everything in it: links to a file, to a folder elsewhere, and in a circle."""
    wood = silo / "wood"
    (wood / "deep" / "er").mkdir(parents=True)
    (wood / "empty").mkdir()
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "keep").write_bytes(b"precious")
    for number in range(30):
        (wood / "deep" / f"{number}").write_bytes(b"%d" % number)
    (wood / "deep" / "er" / "x").write_bytes(b"x")
    (wood / "file").symlink_to("deep/1")
    (wood / "elsewhere").symlink_to(tmp_path / "precious")
    (wood / "deep" / "circle").symlink_to(wood)
    return wood


def test_removing_a_tree_removes_links_and_not_what_they_lead_to(
    tree: Any, forest: Path, tmp_path: Path
) -> None:
    told: list[tuple[int, int]] = []
    work = remove_tree(
        tree.service, path("/lake/wood"), lambda objects, count: told.append((objects, count))
    )
    assert not forest.exists()
    assert (tmp_path / "precious" / "keep").exists()
    assert (work.objects, work.failed) == (34, ())
    assert told[-1] == (work.objects, work.bytes)


def test_removing_a_link_leaves_what_it_leads_to(tree: Any, forest: Path, tmp_path: Path) -> None:
    tree.rm("/lake/wood/elsewhere", recursive=True)
    tree.rm("/lake/wood/file")
    assert (tmp_path / "precious" / "keep").exists()
    assert (forest / "deep" / "1").exists()
    assert not (forest / "elsewhere").is_symlink() and not (forest / "file").is_symlink()


def test_copying_a_tree_follows_no_circle(tree: Any, forest: Path, tmp_path: Path) -> None:
    work = copy_tree(tree.service, path("/lake/wood"), path("/other/copy"))
    copy = tmp_path / "other" / "copy"
    assert work.objects == 32
    assert {str(one.path) for one in work.failed} == {
        "/lake/wood/elsewhere",
        "/lake/wood/deep/circle",
    }
    assert (copy / "file").read_bytes() == b"1"
    assert (copy / "deep" / "er" / "x").read_bytes() == b"x"
    assert (copy / "empty").is_dir()
    with pytest.raises(headrace.InvalidPath, match="into itself"):
        copy_tree(tree.service, path("/lake/wood"), path("/lake/wood/deep/copy"))


def test_a_tree_moves_in_one_step_where_it_can(tree: Any, forest: Path, silo: Path) -> None:
    tree.mv("/lake/wood", "/lake/moved", recursive=True)
    assert not forest.exists()
    assert (silo / "moved" / "elsewhere").is_symlink()
    # Into a folder that is there:
    tree.mkdir("/lake/into")
    tree.mv("/lake/moved", "/lake/into")
    assert (silo / "into" / "moved" / "deep" / "3").read_bytes() == b"3"
    tree.mv("/lake/into/moved/deep/3", "/lake/three")
    assert (silo / "three").read_bytes() == b"3"
    with pytest.raises(FileNotFoundError):
        tree.mv("/lake/none", "/lake/x")


def test_a_tree_that_the_policy_guards_moves_file_by_file_or_not_at_all(
    tree: Any, silo: Path
) -> None:
    (silo / "hr" / "sub").mkdir(parents=True)
    (silo / "hr" / "sub" / "a").write_bytes(b"a")
    work = move_tree(tree.service, path("/lake/hr"), path("/lake/free"))
    assert isinstance(work.failed[0].error, headrace.PolicyDenied)
    assert (silo / "hr" / "sub" / "a").exists()
    assert not (silo / "free" / "sub" / "a").exists()
    assert tree.mv("/lake/hr/sub", "/lake/hr/bus") is None
    assert (silo / "hr" / "bus" / "a").read_bytes() == b"a"


def test_an_interrupted_copy_leaves_whole_files_only(tree: Any, silo: Path, tmp_path: Path) -> None:
    (silo / "many").mkdir()
    for number in range(200):
        (silo / "many" / f"{number}").write_bytes(b"x" * 10_000)

    def interrupt(objects: int, count: int) -> None:
        if objects >= 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy_tree(tree.service, path("/lake/many"), path("/other/many"), interrupt)
    copied = list((tmp_path / "other" / "many").iterdir())
    assert 20 <= len(copied) < 200
    assert all(one.read_bytes() == b"x" * 10_000 for one in copied)


def test_rm_says_what_it_could_not(tree: Any, silo: Path) -> None:
    (silo / "d").mkdir()
    (silo / "d" / "a").write_bytes(b"a")
    with pytest.raises(IsADirectoryError):
        tree.rm("/lake/d")
    with pytest.raises(FileNotFoundError):
        tree.rm("/lake/none")
    with pytest.raises(headrace.FolderNotEmpty):
        tree.rmdir("/lake/d")
    tree.rm(["/lake/d/a"])
    tree.rmdir("/lake/d")
    with pytest.raises(FileNotFoundError):
        tree.mkdir("/lake/e/f", create_parents=False)
    tree.makedirs("/lake/e/f")
    tree.makedirs("/lake/e/f", exist_ok=True)
    with pytest.raises(FileExistsError):
        tree.makedirs("/lake/e/f")
    tree.rm("/lake/*", recursive=True)
    assert os.listdir(silo) == []


@pytest.fixture
def twins(tmp_path: Path, silo: Path) -> Iterator[Any]:
    """A folder that is mounted twice, and part of it within another mount."""
    (tmp_path / "outer").mkdir()
    (silo / "d").mkdir()
    (silo / "d" / "a").write_bytes(b"only copy")
    (silo / "file").write_bytes(b"only copy")
    mounts = {"/one": silo, "/two": silo, "/outer": tmp_path / "outer", "/outer/in": silo / "d"}
    config = {
        "mount": [{"path": name, "url": str(folder)} for name, folder in mounts.items()],
        "cache": {
            "folder": str(tmp_path / "cache"),
            "memory": "64MiB",
            "ssd": "0",
            "key_file": str(tmp_path / "keys" / "key"),
        },
    }
    yield fsspec.filesystem("headrace", config=config, skip_instance_cache=True)
    disconnect_all()


def test_nothing_is_moved_onto_itself_by_another_name(twins: Any, silo: Path) -> None:
    (silo / "link").symlink_to("file")
    os.link(silo / "file", silo / "hard")
    for source, target in (
        ("/one/file", "/two/file"),
        ("/one/link", "/one/file"),
        ("/one/hard", "/one/file"),
        ("/one/d/a", "/outer/in/a"),
    ):
        with pytest.raises(headrace.AlreadyExists, match="are the same"):
            twins.mv(source, target)
    with pytest.raises((headrace.AlreadyExists, headrace.InvalidPath)):
        move_tree(twins.service, path("/one/d"), path("/two/d"), merge=True)
    assert (silo / "file").read_bytes() == (silo / "d" / "a").read_bytes() == b"only copy"
    assert (silo / "link").is_symlink()


def test_a_folder_is_not_put_into_itself_by_another_name(twins: Any, silo: Path) -> None:
    (silo / "back").symlink_to("d")
    for source, target in (
        ("/one/d", "/two/d/x"),
        ("/one/d", "/outer/in/x"),
        ("/one/d", "/one/back/x"),
        ("/outer", "/one/d/x"),
    ):
        with pytest.raises(headrace.InvalidPath, match="into itself"):
            copy_tree(twins.service, path(source), path(target))
    assert os.listdir(silo / "d") == ["a"]


def test_a_folder_with_a_mount_in_it_is_not_touched(twins: Any, silo: Path, tmp_path: Path) -> None:
    (tmp_path / "outer" / "b").write_bytes(b"b")
    calls: tuple[Callable[[], object], ...] = (
        lambda: twins.rm("/outer", recursive=True),
        lambda: twins.rm("/", recursive=True),
        lambda: twins.rm(["/one/file", "/outer"], recursive=True),
        lambda: twins.mv("/outer", "/one/outer"),
    )
    for call in calls:
        with pytest.raises(headrace.ReadOnly, match=r"mount point|leads to"):
            call()
    assert (silo / "d" / "a").exists() and (silo / "file").exists()
    assert (tmp_path / "outer" / "b").exists()


def test_no_call_of_fsspec_enters_a_link(tree: Any, forest: Path, tmp_path: Path) -> None:
    keep = tmp_path / "precious" / "keep"
    tree.copy("/lake/wood/", "/other/copy", recursive=True)
    assert not (tmp_path / "other" / "copy" / "elsewhere" / "keep").exists()
    with pytest.raises(FileNotFoundError):
        tree.rm("/lake/wood/*/keep")
    with pytest.raises(headrace.FolderNotEmpty):
        tree.rm("/lake/wood", recursive=True, maxdepth=1)
    assert keep.exists() and (forest / "deep" / "er" / "x").exists()
    assert not (forest / "elsewhere").is_symlink()
    (forest / "elsewhere").symlink_to(tmp_path / "precious")
    tree.mv("/lake/wood/", "/lake/moved", recursive=True)
    assert keep.exists()
    assert (tmp_path / "silo" / "moved" / "deep" / "3").read_bytes() == b"3"
    tree.rm("/lake/wood", recursive=True, maxdepth=5)
    assert keep.exists() and not forest.exists()


def test_a_link_to_a_folder_is_not_moved_to_another_store_with_what_is_in_it(
    tree: Any, forest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_two_file_systems(*_: object) -> bool:
        return False

    service: object = tree.service
    monkeypatch.setattr(type(service), "rename", on_two_file_systems)
    with pytest.raises(headrace.NotFolder, match="symbolic link"):
        tree.mv("/lake/wood/elsewhere", "/other/x")
    assert (tmp_path / "precious" / "keep").exists()


def test_a_name_that_looks_like_a_pattern_is_meant_itself(tree: Any, silo: Path) -> None:
    for name in ("data1.csv", "data[1].csv", "data[2].csv", "data2.csv"):
        (silo / name).write_bytes(name.encode())
    tree.copy("/lake/data[1].csv", "/lake/copied")
    assert (silo / "copied").read_bytes() == b"data[1].csv"
    tree.rm("/lake/data[1].csv")
    tree.mv("/lake/data[2].csv", "/lake/moved")
    assert (silo / "moved").read_bytes() == b"data[2].csv"
    assert sorted(os.listdir(silo)) == ["copied", "data1.csv", "data2.csv", "moved"]
    tree.rm("/lake/data[1].csv")  # nothing has that name any more: a pattern
    assert sorted(os.listdir(silo)) == ["copied", "data2.csv", "moved"]
