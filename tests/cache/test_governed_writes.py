"""What the policy lets be written and where it is then held; copies, new names, deletions."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace_cache.limits import PolicySource
from headrace_cache.policy.watch import LOOK_SECONDS
from headrace_mounts.tree_work import copy_tree
from headrace_namespace.errors import (
    AlreadyExists,
    HeadraceError,
    NotFound,
    PolicyDenied,
)
from headrace_namespace.freshness import PINNED
from tests.fakes.local_cache import PAGE, Rig, path, whole
from tests.fakes.memory_backend import MemoryBackend
from tests.fakes.page_tier import DictTier

PART = 4 * PAGE


@pytest.fixture
def lake() -> MemoryBackend:
    return MemoryBackend("memory:lake", part_bytes=PART)


def write(rig: Rig, where: str, data: bytes) -> str:
    writer = rig.service.create(path(where))
    for start in range(0, len(data), 50_000):
        writer.write(memoryview(data)[start : start + 50_000])
    return writer.commit().tag


def staged(rig: Rig) -> int:
    return rig.staging.staged_bytes


RULES = PolicySource(
    """
version = 1
[[rule]]
name = "hr"
match.path = ["/lake/hr/**"]
apply.persistence = "memory-only"
apply.guarantee = "unattested"
[[rule]]
name = "secret"
match.path = ["/lake/secret/**", "/lake/*/deep/**"]
apply.persistence = "no-cache"
apply.guarantee = "unattested"
[[rule]]
name = "no"
match.path = ["/lake/no/**"]
apply.persistence = "deny"
[[rule]]
name = "attested"
match.path = ["/lake/tee/**"]
apply.guarantee = "G1"
""",
    "policy.toml",
)


@pytest.fixture
def governed(lake: MemoryBackend) -> Iterator[Rig]:
    rig = Rig({"/lake": lake}, policy=RULES, ssd=DictTier())
    yield rig
    rig.service.close()


@pytest.mark.parametrize("where", ["/lake/no/a", "/lake/tee/a"])
def test_what_may_not_be_read_may_not_be_written(
    governed: Rig, lake: MemoryBackend, where: str
) -> None:
    lake.set("a", b"x")
    lake.set(where.removeprefix("/lake/"), b"x")
    with pytest.raises(PolicyDenied):
        governed.service.create(path(where))
    with pytest.raises(PolicyDenied):
        governed.service.append(path(where))
    with pytest.raises(PolicyDenied):
        governed.service.copy(path("/lake/a"), path(where))
    with pytest.raises(PolicyDenied):
        governed.service.make_folder(path(where + "/sub"))
    assert isinstance(governed.service.delete([path(where)])[path(where)], PolicyDenied)


@pytest.mark.parametrize(
    ("folder", "memory", "ssd"), [("free", True, True), ("hr", True, False), ("secret", 0, 0)]
)
def test_what_was_written_is_kept_where_its_placement_allows(
    governed: Rig, lake: MemoryBackend, folder: str, memory: bool, ssd: bool
) -> None:
    data = os.urandom(2 * PART)
    staged_ever: list[int] = []
    lake.before_write = lambda operation, key: staged_ever.append(staged(governed))
    write(governed, f"/lake/{folder}/a", data)
    assert governed.ssd is not None
    assert bool(governed.ssd.pages) == ssd
    assert bool(governed.service.status().tiers["memory"].used) == memory
    assert bool(max(staged_ever)) == memory
    assert whole(governed.service.open(path(f"/lake/{folder}/a"))) == data
    assert (lake.asked["read"] == 0) == memory


def test_no_copy_and_no_new_name_makes_bytes_looser(governed: Rig, lake: MemoryBackend) -> None:
    lake.set("hr/a", b"x")
    lake.set("a", b"x")
    for move in (governed.service.copy, governed.service.rename):
        with pytest.raises(PolicyDenied, match="from memory-only to sealed-ssd") as caught:
            move(path("/lake/hr/a"), path("/lake/b"))
        assert "/lake" in str(caught.value.hint)
    governed.service.copy(path("/lake/a"), path("/lake/hr/b"))
    governed.service.copy(path("/lake/hr/a"), path("/lake/secret/a"))
    assert governed.service.rename(path("/lake/hr/a"), path("/lake/hr/c"))
    assert lake.keys == ["a", "hr/b", "hr/c", "secret/a"]


@pytest.mark.parametrize(
    ("source", "target", "whole_folder"),
    [
        ("hr", "hr2", False),
        ("free", "hr/free", False),  # /lake/free/deep/** is no-cache
        ("hr/x", "secret/x", True),
        ("secret/x", "secret/y", True),
        ("free/deep/x", "secret/x", True),
    ],
)
def test_a_folder_moves_in_one_step_only_if_nothing_in_it_could_get_looser(
    governed: Rig, lake: MemoryBackend, source: str, target: str, whole_folder: bool
) -> None:
    lake.set(f"{source}/a", b"x")
    moved = governed.service.rename(path(f"/lake/{source}"), path(f"/lake/{target}"))
    assert moved == whole_folder
    assert lake.keys == [f"{target if moved else source}/a"]


# Copying, moving, deleting.


def test_a_folders_name_that_must_stay_in_memory_is_made_nowhere_else(lake: MemoryBackend) -> None:
    lake.set("hidden/project-x/a", b"a")
    lake.set("open/b", b"b")
    text = (
        'version = 1\n[[rule]]\nname = "names"\nmatch.path = ["/lake/hidden/**"]\n'
        'apply.metadata = "memory-only"\napply.guarantee = "unattested"\n'
    )
    rig = Rig({"/lake": lake}, policy=PolicySource(text, "policy"))
    hidden = path("/lake/hidden/project-x")
    with pytest.raises(PolicyDenied, match="looser"):
        rig.service.make_folder(path("/lake/open/project-x"), like=hidden)
    work = copy_tree(rig.service, path("/lake/hidden"), path("/lake/open/copy"))
    assert [type(one.error) for one in work.failed] == [PolicyDenied]
    assert [entry.path.name for entry in rig.service.list(path("/lake/open"))] == ["b"]
    rig.service.make_folder(path("/lake/hidden/copy"), like=hidden)
    rig.service.close()


def test_a_copy_whose_source_becomes_restricted_is_not_made(
    lake: MemoryBackend, tmp_path: Path
) -> None:
    far = MemoryBackend("memory:far")
    lake.set("a", os.urandom(3 * PAGE))
    file = tmp_path / "policy.toml"
    file.write_text("version = 1\n")
    rig = Rig({"/lake": lake, "/far": far}, policy=PolicySource(file.read_text(), str(file)))

    def tighten(*_: object) -> None:
        fresh = tmp_path / "fresh.toml"
        fresh.write_text(
            'version = 1\n[[rule]]\nname = "a"\nmatch.path = ["/lake/a"]\n'
            'apply.persistence = "memory-only"\napply.guarantee = "unattested"\n'
        )
        os.replace(fresh, file)
        rig.clock.sleep(LOOK_SECONDS)

    lake.before_read = tighten
    with pytest.raises(PolicyDenied, match="looser"):
        rig.service.copy(path("/lake/a"), path("/far/a"))
    assert far.stat("a") is None and staged(rig) == 0
    rig.service.close()


def test_a_copy_within_a_store_is_the_stores_own(rig: Rig, lake: MemoryBackend) -> None:
    data = os.urandom(3 * PART)
    lake.set("a", data)
    version = rig.service.copy(path("/lake/a"), path("/lake/b"))
    assert lake.data("b") == data
    assert (lake.asked["copy"], lake.asked["read"], lake.asked["put"]) == (1, 0, 0)
    assert version == rig.service.stat(path("/lake/b")).version
    with pytest.raises(AlreadyExists):
        rig.service.copy(path("/lake/a"), path("/lake/b"), exclusive=True)
    with pytest.raises(NotFound):
        rig.service.copy(path("/lake/none"), path("/lake/b"))


@pytest.mark.parametrize("size", [0, 7, PART, 40 * PART + 1])
def test_a_copy_between_stores_streams(lake: MemoryBackend, size: int) -> None:
    pond = MemoryBackend("memory:pond", part_bytes=PART)
    rig = Rig({"/lake": lake, "/pond": pond})
    data = os.urandom(size)
    lake.set("a", data)
    rig.service.copy(path("/lake/a"), path("/pond/a"))
    assert pond.data("a") == data
    assert rig.service.status().bytes_fetched == size
    assert rig.service.rename(path("/lake/a"), path("/pond/b")) is False
    assert (pond.uploads, staged(rig)) == ([], 0)
    rig.service.close()


def test_a_copy_of_what_was_replaced_leaves_no_mix(lake: MemoryBackend) -> None:
    pond = MemoryBackend("memory:pond", part_bytes=PART)
    rig = Rig({"/lake": lake, "/pond": pond})
    lake.set("a", b"o" * (40 * PART))

    def replace(operation: str, key: str) -> None:
        lake.set("a", b"n" * (40 * PART))

    pond.before_write = replace
    with pytest.raises(HeadraceError):
        rig.service.copy(path("/lake/a"), path("/pond/a"))
    assert (pond.keys, pond.uploads, staged(rig)) == ([], [], 0)
    rig.service.close()


def test_delete_asks_as_many_at_a_time_as_the_store_takes(rig: Rig, lake: MemoryBackend) -> None:
    for number in range(1500):
        lake.set(f"d/{number}", b"x")
    paths = [path(f"/lake/d/{number}") for number in range(1500)]
    wrong = rig.service.delete([*paths, path("/lake/d/none"), path("/lake")])
    assert lake.keys == []
    assert lake.asked["delete"] == 2
    assert [str(where) for where in wrong] == ["/lake"]


def test_folders_are_made_and_removed(rig: Rig, lake: MemoryBackend) -> None:
    rig.service.make_folder(path("/lake/d"))
    assert rig.service.stat(path("/lake/d")).is_folder
    with pytest.raises(AlreadyExists):
        rig.service.make_folder(path("/lake/d"))
    rig.service.make_folder(path("/lake/d"), exist_ok=True)
    lake.set("a", b"x")
    with pytest.raises(AlreadyExists):
        rig.service.make_folder(path("/lake/a"), exist_ok=True)
    rig.service.remove_folder(path("/lake/d"))
    with pytest.raises(NotFound):
        rig.service.remove_folder(path("/lake/d"))


def test_a_listing_never_stands_in_for_what_this_process_wrote(
    rig: Rig, lake: MemoryBackend
) -> None:
    for number in range(20):
        lake.set(f"d/{number}", b"old")
    list(rig.service.list(path("/lake/d")))
    whole(rig.service.open(path("/lake/d/0")))  # proves the listing
    write(rig, "/lake/d/1", b"new")
    assert whole(rig.service.open(path("/lake/d/1"))) == b"new"
    list(rig.service.list(path("/lake/d")))
    whole(rig.service.open(path("/lake/d/0")))
    rig.service.delete([path("/lake/d/2")])
    with pytest.raises(NotFound):
        rig.service.open(path("/lake/d/2"))
    list(rig.service.list(path("/lake/d")))
    whole(rig.service.open(path("/lake/d/0")))
    rig.service.rename(path("/lake/d"), path("/lake/e"))
    with pytest.raises(NotFound):
        rig.service.open(path("/lake/d/3"))


def test_a_listed_object_is_not_taken_for_a_folder(rig: Rig, lake: MemoryBackend) -> None:
    lake.set("a", b"x")
    assert [entry.path for entry in rig.service.list(path("/lake/a"))] == [path("/lake/a")]
    assert not rig.service.stat(path("/lake/a")).is_folder


def test_a_pinned_mount_shows_what_this_process_wrote() -> None:
    lake = MemoryBackend("memory:lake", part_bytes=PART)
    rig = Rig({"/lake": lake}, freshness=PINNED)
    lake.set("a", b"first")
    assert whole(rig.service.open(path("/lake/a"))) == b"first"
    lake.set("a", b"theirs")
    assert whole(rig.service.open(path("/lake/a"))) == b"first"
    write(rig, "/lake/a", b"mine")
    assert whole(rig.service.open(path("/lake/a"))) == b"mine"
    rig.service.close()
