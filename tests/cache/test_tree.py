"""The tree as it shows: mounts in one another, spellings, listings, and how fresh it all is."""

from __future__ import annotations

import pytest

from headrace_namespace.errors import NotFound
from headrace_namespace.freshness import CHECK, PINNED, Freshness
from tests.fakes.local_cache import Rig, path, whole
from tests.fakes.memory_backend import MemoryBackend


def test_check_asks_at_every_open_and_an_age_does_not(lake: MemoryBackend) -> None:
    lake.set("a", b"1")
    rig = Rig({"/lake": lake})
    for _ in range(3):
        rig.service.open(path("/lake/a"))
    assert lake.asked["stat"] == 3
    rig.service.open(path("/lake/a"), Freshness(10))
    assert lake.asked["stat"] == 3
    rig.clock.sleep(11)
    rig.service.open(path("/lake/a"), Freshness(10))
    assert lake.asked["stat"] == 4
    rig.service.close()


def test_one_listing_validates_the_opens_of_its_children(lake: MemoryBackend) -> None:
    for number in range(1000):
        lake.set(f"d/{number:04}", b"%d" % number)
    rig = Rig({"/lake": lake})
    for entry in rig.service.list(path("/lake/d")):
        opened = rig.service.open(entry.path)
        assert whole(opened) == b"%d" % int(entry.path.name)
    assert lake.asked["stat"] == 1  # the listing had to prove itself
    assert lake.asked["list"] == 1
    rig.service.open(path("/lake/d/0500"))  # a second open is checked again
    assert lake.asked["stat"] == 2
    rig.service.close()


def test_a_listing_that_is_old_or_wrong_validates_nothing(lake: MemoryBackend) -> None:
    for key in ("d/a", "d/b", "d/c"):
        lake.set(key, b"old")
    rig = Rig({"/lake": lake})
    list(rig.service.list(path("/lake/d")))
    lake.set("d/a", b"new")
    lake.set("d/b", b"new")
    assert whole(rig.service.open(path("/lake/d/a"))) == b"new"
    assert whole(rig.service.open(path("/lake/d/b"))) == b"new"
    list(rig.service.list(path("/lake/d")))
    assert whole(rig.service.open(path("/lake/d/a"))) == b"new"
    rig.clock.sleep(6)
    lake.set("d/b", b"newer")
    assert whole(rig.service.open(path("/lake/d/b"))) == b"newer"
    lake.set("d/c", b"newer")
    list(rig.service.list(path("/lake/d")))
    rig.service.open(path("/lake/d/a"))
    lake.set("d/c", b"newest")
    assert whole(rig.service.open(path("/lake/d/c"), CHECK)) == b"newest"
    rig.service.close()


def test_the_other_unicode_spelling_finds_the_object(rig: Rig, lake: MemoryBackend) -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    lake.set(decomposed, b"d")
    assert whole(rig.service.open(path(f"/lake/{composed}"))) == b"d"
    lake.set(composed, b"c")
    assert whole(rig.service.open(path(f"/lake/{composed}"))) == b"c"
    assert whole(rig.service.open(path(f"/lake/{decomposed}"))) == b"d"
    with pytest.raises(NotFound, match="th\u00e9"):
        rig.service.open(path("/lake/th\u00e9"))


def test_nested_mounts_show_in_their_parents() -> None:
    outer, inner = MemoryBackend("memory:outer"), MemoryBackend("memory:inner")
    outer.set("a", b"outer")
    outer.set("deep/x/hidden", b"outer")
    inner.set("b", b"inner")
    rig = Rig({"/m": outer, "/m/deep/x": inner, "/far/away": inner})
    tree = rig.service

    def names(folder: str) -> set[str]:
        return {entry.path.name for entry in tree.list(path(folder))}

    assert names("/") == {"m", "far"}
    assert names("/far") == {"away"}
    assert names("/m") == {"a", "deep"}
    assert names("/m/deep") == {"x"}
    assert names("/m/deep/x") == {"b"}
    assert whole(tree.open(path("/m/deep/x/b"))) == b"inner"
    with pytest.raises(NotFound):
        tree.open(path("/m/deep/x/hidden"))
    assert tree.stat(path("/far")).is_folder and tree.stat(path("/m/deep")).is_folder
    assert [e.path.text for e in tree.list(path("/m/a"))] == ["/m/a"]
    rig.service.close()


def test_a_large_folder_is_listed_as_it_arrives() -> None:
    lake = MemoryBackend("memory:lake", page_children=1000)
    for number in range(5000):
        lake.set(f"d/{number:04}", b"")
    rig = Rig({"/lake": lake})
    entries = rig.service.list(path("/lake/d"))
    next(entries)
    assert lake.asked["list"] == 1
    assert sum(1 for _ in entries) == 4999
    assert lake.asked["list"] == 5
    rig.service.close()


def test_a_pinned_mount_keeps_its_first_answer(lake: MemoryBackend) -> None:
    lake.set("d/a", b"one")
    rig = Rig({"/lake": lake}, freshness=PINNED)
    assert whole(rig.service.open(path("/lake/d/a"))) == b"one"
    lake.set("d/a", b"two")
    list(rig.service.list(path("/lake/d")))
    assert whole(rig.service.open(path("/lake/d/a"), CHECK)) == b"two"
    assert whole(rig.service.open(path("/lake/d/a"))) == b"one"
    rig.service.close()
