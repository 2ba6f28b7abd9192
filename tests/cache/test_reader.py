from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from headrace_cache.extent_store import OBJECT_BYTES
from headrace_cache.limits import PolicySource
from headrace_cache.page import PageId
from headrace_cache.placement import Persistence
from headrace_cache.policy import BUILT_IN
from headrace_cache.service import OpenObject
from headrace_mounts.handles import HeadraceFile
from headrace_namespace.backends.protocol import Folder
from headrace_namespace.errors import IsFolder, NotFound, PolicyDenied, VersionGone
from headrace_namespace.freshness import CHECK, PINNED, Freshness
from headrace_namespace.identity import ObjectRef, ObjectVersion
from headrace_namespace.path import NamespacePath
from tests.fakes.local_cache import PAGE, Rig
from tests.fakes.memory_backend import MemoryBackend
from tests.fakes.page_tier import DictTier


def path(text: str) -> NamespacePath:
    return NamespacePath.parse(text)


def whole(opened: OpenObject) -> bytes:
    return opened.read_at(0, opened.version.size)


@pytest.fixture
def lake() -> MemoryBackend:
    return MemoryBackend("memory:lake")


@pytest.fixture
def rig(lake: MemoryBackend) -> Iterator[Rig]:
    rig = Rig({"/lake": lake})
    yield rig
    rig.service.close()


@pytest.mark.parametrize(
    "size", [0, 1, 63, 4096, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE + 17, 20 * PAGE, 200 * PAGE + 5]
)
def test_every_size_reads_as_it_is_cold_and_warm(rig: Rig, lake: MemoryBackend, size: int) -> None:
    data = os.urandom(size)
    lake.put("a", data)
    for _ in range(2):
        opened = rig.service.open(path("/lake/a"))
        assert whole(opened) == data
        for _ in range(50):
            start = random.randrange(size + 1)
            stop = min(size, start + random.randrange(3 * PAGE))
            assert opened.read_at(start, stop) == data[start:stop]
            assert bytes(opened.view(start, stop)) == data[start:stop]
            target = bytearray(stop - start)
            assert opened.read_into(start, memoryview(target)) == stop - start
            assert target == data[start:stop]
        opened.close()


def test_a_warm_read_asks_the_store_for_no_byte(rig: Rig, lake: MemoryBackend) -> None:
    lake.put("a", os.urandom(10 * PAGE))
    whole(rig.service.open(path("/lake/a")))
    reads = lake.asked["read"]
    whole(rig.service.open(path("/lake/a")))
    assert lake.asked["read"] == reads


def test_reading_a_little_fetches_a_page_and_not_the_object(rig: Rig, lake: MemoryBackend) -> None:
    lake.put("a", os.urandom(12 * PAGE))
    rig.service.open(path("/lake/a")).read_at(5 * PAGE + 3, 5 * PAGE + 4)
    assert rig.service.status().bytes_fetched == PAGE


def test_a_range_past_the_end_is_cut(rig: Rig, lake: MemoryBackend) -> None:
    lake.put("a", b"0123456789")
    opened = rig.service.open(path("/lake/a"))
    assert opened.read_at(8, 99) == b"89"
    assert opened.read_at(10, 12) == b""
    assert opened.read_at(99, 100) == b""


def test_a_closed_object_says_so(rig: Rig, lake: MemoryBackend) -> None:
    lake.put("a", b"x")
    opened = rig.service.open(path("/lake/a"))
    opened.read_at(0, 1)
    opened.close()
    with pytest.raises(ValueError, match="closed"):
        opened.read_at(0, 1)


def test_folders_and_nothing_are_told_apart(rig: Rig, lake: MemoryBackend) -> None:
    lake.put("d/a", b"x")
    with pytest.raises(IsFolder):
        rig.service.open(path("/lake/d"))
    with pytest.raises(NotFound):
        rig.service.open(path("/lake/nope"))
    with pytest.raises(NotFound, match="no mount"):
        rig.service.open(path("/pond/a"))


def test_sixty_readers_of_one_cold_object_fetch_each_byte_once(
    rig: Rig, lake: MemoryBackend
) -> None:
    data = os.urandom(9 * PAGE + 11)
    lake.put("a", data)
    go = threading.Barrier(60)
    wrong: list[int] = []

    def read(number: int) -> None:
        go.wait()
        opened = rig.service.open(path("/lake/a"))
        if whole(opened) != data:
            wrong.append(number)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert rig.service.status().bytes_fetched == len(data)


def test_an_object_replaced_under_a_read_gives_old_bytes_or_version_gone(
    rig: Rig, lake: MemoryBackend
) -> None:
    old, new = b"o" * (6 * PAGE), b"n" * (6 * PAGE)
    lake.put("a", old)
    opened = rig.service.open(path("/lake/a"))
    assert opened.read_at(0, 10) == old[:10]
    lake.put("a", new)
    assert opened.read_at(5, PAGE) == old[5:PAGE]  # that page is here
    with pytest.raises(VersionGone):
        opened.read_at(3 * PAGE, 4 * PAGE)
    assert opened.read_at(0, 10) == old[:10]
    assert whole(rig.service.open(path("/lake/a"))) == new


def test_a_failed_fetch_fails_its_readers_and_nobody_after(rig: Rig, lake: MemoryBackend) -> None:
    lake.put("a", b"x" * PAGE)

    def fail(version: ObjectVersion, start: int) -> None:
        raise OSError("the store is on fire")

    lake.before_read = fail
    opened = rig.service.open(path("/lake/a"))
    with pytest.raises(OSError, match="fire"):
        whole(opened)
    lake.before_read = None
    assert whole(opened) == b"x" * PAGE


def test_memory_stays_within_its_bound_to_the_byte(lake: MemoryBackend) -> None:
    rig = Rig({"/lake": lake}, memory_bytes=16 * PAGE)
    objects = {f"o{n}": os.urandom(random.randrange(1, 5 * PAGE)) for n in range(60)}
    objects["huge"] = os.urandom(100 * PAGE)
    for key, data in objects.items():
        lake.put(key, data)
    over: list[int] = []

    def read(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(40):
            key = rng.choice(list(objects))
            assert whole(rig.service.open(path(f"/lake/{key}"))) == objects[key]
            used = rig.memory.usage().used
            if used > 16 * PAGE:
                over.append(used)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert over == []
    rig.service.close()
    assert rig.memory.usage().used == 0


def test_what_is_viewed_stays_charged_and_served_until_the_view_is_gone(
    lake: MemoryBackend,
) -> None:
    rig = Rig({"/lake": lake}, memory_bytes=16 * PAGE)
    data = os.urandom(4 * PAGE)
    lake.put("kept", data)
    view = rig.service.open(path("/lake/kept")).view(0, 4 * PAGE)
    assert isinstance(view, memoryview) and view.readonly

    def pass_by(count: int, *, times: int = 1) -> None:
        for number in range(count):
            lake.put(f"o{number}", os.urandom(4 * PAGE))
            for _ in range(times):
                whole(rig.service.open(path(f"/lake/o{number}")))
            assert rig.memory.usage().used <= 16 * PAGE

    pass_by(30)
    assert view == data
    fetched = rig.service.status().bytes_fetched
    assert whole(rig.service.open(path("/lake/kept"))) == data
    assert rig.service.status().bytes_fetched == fetched
    view.release()
    pass_by(60, times=2)  # used again, so that they compete with what is used again
    whole(rig.service.open(path("/lake/kept")))
    assert rig.service.status().bytes_fetched == fetched + 61 * 4 * PAGE
    rig.service.close()


def test_with_all_memory_held_by_views_reads_still_succeed(lake: MemoryBackend) -> None:
    rig = Rig({"/lake": lake}, memory_bytes=16 * PAGE)
    views: list[memoryview | bytes] = []
    for number in range(8):
        data = bytes([number]) * (4 * PAGE)
        lake.put(f"o{number}", data)
        views.append(rig.service.open(path(f"/lake/o{number}")).view(0, 4 * PAGE))
        assert views[-1] == data
    assert rig.memory.usage().used <= 16 * PAGE
    for number in range(8):
        assert views[number] == bytes([number]) * (4 * PAGE)
    views.clear()
    rig.service.close()


def test_what_is_evicted_comes_back_from_the_ssd(lake: MemoryBackend) -> None:
    rig = Rig({"/lake": lake}, memory_bytes=16 * PAGE, ssd=DictTier())
    objects = {f"o{n}": os.urandom(4 * PAGE) for n in range(20)}
    for key, data in objects.items():
        lake.put(key, data)
        whole(rig.service.open(path(f"/lake/{key}")))
    reads = lake.asked["read"]
    for key, data in objects.items():
        assert whole(rig.service.open(path(f"/lake/{key}"))) == data
    assert lake.asked["read"] == reads
    rig.service.close()


RULES = """
version = 1
[[rule]]
name = "hr"
match.path = ["/lake/hr/**"]
apply.persistence = "memory-only"
apply.guarantee = "unattested"
[[rule]]
name = "attested"
match.path = ["/lake/secret/**"]
apply.persistence = "memory-only"
[[rule]]
name = "stream"
match.path = ["/lake/stream/**"]
apply.persistence = "no-cache"
apply.guarantee = "unattested"
[[rule]]
name = "closed"
match.path = ["/lake/closed/**"]
apply.persistence = "deny"
[[rule]]
name = "quiet"
match.path = ["/lake/quiet/**"]
apply.metadata = "memory-only"
[[rule]]
name = "hidden"
match.path = ["/lake/hidden/**"]
apply.metadata = "memory-only"
apply.guarantee = "G1"
[[rule]]
name = "keys"
match.path = ["/**/*.pem"]
apply.persistence = "deny"
[[rule]]
name = "tagged"
match.tag = ["pii=eu"]
apply.persistence = "memory-only"
apply.guarantee = "unattested"
"""


@pytest.fixture
def governed(lake: MemoryBackend) -> Iterator[Rig]:
    for folder in ("hr", "secret", "stream", "closed", "quiet", "open"):
        lake.put(f"{folder}/a", folder.encode() * PAGE)
    other = MemoryBackend("memory:lake")  # a second way to the same store
    other.put("hr/a", b"hr" * PAGE)
    rig = Rig(
        {"/lake": lake, "/alias": other}, policy=PolicySource(RULES, "policy.toml"), ssd=DictTier()
    )
    yield rig
    rig.service.close()


@pytest.mark.parametrize(
    ("folder", "memory", "ssd"),
    [("open", True, True), ("hr", True, False), ("quiet", True, False), ("stream", False, False)],
)
def test_bytes_are_only_where_their_placement_allows(
    governed: Rig, folder: str, memory: bool, ssd: bool
) -> None:
    assert whole(governed.service.open(path(f"/lake/{folder}/a"))) == folder.encode() * PAGE
    assert governed.ssd is not None
    assert (governed.memory.usage().used > 0) == memory
    assert bool(governed.ssd.pages) == ssd


def test_denied_and_unattested_paths_are_refused_before_the_store_is_asked(
    governed: Rig, lake: MemoryBackend
) -> None:
    for name in ("/lake/closed/a", "/lake/secret/a", "/lake/CLOSED/a"):
        with pytest.raises(PolicyDenied):
            governed.service.open(path(name))
    with pytest.raises(PolicyDenied):
        list(governed.service.list(path("/lake/closed")))
    with pytest.raises(PolicyDenied):
        governed.service.stat(path("/lake/closed/a"))
    assert not lake.asked


def test_an_alias_of_a_restricted_object_is_as_restricted(governed: Rig) -> None:
    assert whole(governed.service.open(path("/alias/hr/a"))) == b"hr" * PAGE
    assert governed.ssd is not None and not governed.ssd.pages
    why = governed.service.explain(path("/alias/hr/a"))
    assert why.persistence == "memory-only"
    assert "hr" in [rule.name for rule in why.rules]


def test_check_asks_at_every_open_and_an_age_does_not(lake: MemoryBackend) -> None:
    lake.put("a", b"1")
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
        lake.put(f"d/{number:04}", b"%d" % number)
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
        lake.put(key, b"old")
    rig = Rig({"/lake": lake})
    list(rig.service.list(path("/lake/d")))
    lake.put("d/a", b"new")
    lake.put("d/b", b"new")
    assert whole(rig.service.open(path("/lake/d/a"))) == b"new"
    assert whole(rig.service.open(path("/lake/d/b"))) == b"new"
    list(rig.service.list(path("/lake/d")))
    assert whole(rig.service.open(path("/lake/d/a"))) == b"new"
    rig.clock.sleep(6)
    lake.put("d/b", b"newer")
    assert whole(rig.service.open(path("/lake/d/b"))) == b"newer"
    lake.put("d/c", b"newer")
    list(rig.service.list(path("/lake/d")))
    rig.service.open(path("/lake/d/a"))
    lake.put("d/c", b"newest")
    assert whole(rig.service.open(path("/lake/d/c"), CHECK)) == b"newest"
    rig.service.close()


def test_the_other_unicode_spelling_finds_the_object(rig: Rig, lake: MemoryBackend) -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    lake.put(decomposed, b"d")
    assert whole(rig.service.open(path(f"/lake/{composed}"))) == b"d"
    lake.put(composed, b"c")
    assert whole(rig.service.open(path(f"/lake/{composed}"))) == b"c"
    assert whole(rig.service.open(path(f"/lake/{decomposed}"))) == b"d"
    with pytest.raises(NotFound, match="th\u00e9"):
        rig.service.open(path("/lake/th\u00e9"))


def test_nested_mounts_show_in_their_parents() -> None:
    outer, inner = MemoryBackend("memory:outer"), MemoryBackend("memory:inner")
    outer.put("a", b"outer")
    outer.put("deep/x/hidden", b"outer")
    inner.put("b", b"inner")
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


def test_a_listing_shows_only_the_name_of_what_may_not_be_looked_at(
    governed: Rig, lake: MemoryBackend
) -> None:
    lake.put("open/secret.pem", b"-----BEGIN")
    shown = {entry.path.name: entry for entry in governed.service.list(path("/lake/open"))}
    assert set(shown) == {"a", "secret.pem"}
    assert shown["a"].version is not None
    facts = shown["secret.pem"].facts()
    assert facts["type"] == "file" and facts["size"] is None and facts["version"] is None
    with pytest.raises(PolicyDenied):
        governed.service.stat(path("/lake/open/secret.pem"))


def test_looks_are_refused_where_metadata_demands_an_attested_host(
    governed: Rig, lake: MemoryBackend
) -> None:
    lake.put("hidden/a", b"x")
    for look in (governed.service.stat, governed.service.open):
        with pytest.raises(PolicyDenied, match="G1"):
            look(path("/lake/hidden/a"))
    with pytest.raises(PolicyDenied):
        list(governed.service.list(path("/lake/hidden")))


def test_a_folder_of_the_other_spelling_is_governed_before_it_is_listed(
    governed: Rig, lake: MemoryBackend
) -> None:
    lake.put("closed/cafe\u0301/a", b"x")
    for spelling in ("caf\u00e9", "cafe\u0301"):
        with pytest.raises(PolicyDenied):
            list(governed.service.list(path(f"/lake/closed/{spelling}")))


def test_the_tags_of_every_mount_of_an_object_count() -> None:
    lake, other = MemoryBackend("memory:lake"), MemoryBackend("memory:lake")
    lake.put("a", b"x" * PAGE)
    rig = Rig(
        {"/lake": lake, "/tagged": other},
        policy=PolicySource(RULES, "policy.toml"),
        ssd=DictTier(),
        tags_of={"/tagged": ("pii=eu",)},
    )
    whole(rig.service.open(path("/lake/a")))
    assert rig.ssd is not None and not rig.ssd.pages
    assert rig.service.explain(path("/lake/a")).persistence == "memory-only"
    rig.service.close()


def test_a_mount_of_a_single_object_is_a_name_of_it() -> None:
    lake = MemoryBackend("memory:lake")
    lake.put("hr/a", b"x" * PAGE)

    class One(MemoryBackend):
        """A mount whose root is one object of the same store."""

        def ref(self, key: str) -> ObjectRef:
            return ObjectRef("memory:lake", "hr/a")

        def stat(self, key: str) -> ObjectVersion | Folder | None:
            return lake.stat("hr/a")

        def read_into(self, version: ObjectVersion, start: int, target: memoryview) -> None:
            lake.read_into(version, start, target)

    rules = RULES.replace("/lake/hr/**", "/single")
    rig = Rig(
        {"/lake": lake, "/single": One("memory:lake")},
        policy=PolicySource(rules, "policy.toml"),
        ssd=DictTier(),
    )
    whole(rig.service.open(path("/lake/hr/a")))
    assert rig.ssd is not None and not rig.ssd.pages
    rig.service.close()


def test_old_sealed_pages_are_neither_served_nor_kept_once_memory_only(
    lake: MemoryBackend,
) -> None:
    lake.put("hr/a", b"x" * PAGE)
    tier = DictTier()
    loose = Rig({"/lake": lake}, ssd=tier)
    whole(loose.service.open(path("/lake/hr/a")))
    loose.service.close()
    assert tier.pages
    strict = Rig({"/lake": lake}, ssd=tier, policy=PolicySource(RULES, "policy.toml"))
    opened = strict.service.open(path("/lake/hr/a"))
    assert not tier.pages
    reads = lake.asked["read"]
    assert whole(opened) == b"x" * PAGE and lake.asked["read"] == reads + 1
    assert not tier.pages
    strict.service.close()


def test_one_store_holds_an_object_apart_for_each_placement(lake: MemoryBackend) -> None:
    lake.put("hr/a", b"x" * PAGE)
    rig = Rig({"/lake": lake}, ssd=DictTier())
    version = rig.service.open(path("/lake/hr/a")).version
    loose, _ = rig.store.attach(version, BUILT_IN)
    strict, _ = rig.store.attach(version, replace(BUILT_IN, persistence=Persistence.MEMORY_ONLY))
    assert loose.ssd and not strict.ssd and loose is not strict
    assert rig.store.attach(version, BUILT_IN) == (loose, False)
    rig.service.close()


def test_an_object_that_is_not_the_one_judged_is_never_opened(lake: MemoryBackend) -> None:
    """A link that is switched between the judgement and the look: the store finds another ref."""
    lake.put("open/a", b"open")
    lake.put("hr/a", b"hr")

    class Switching(MemoryBackend):
        def stat(self, key: str) -> ObjectVersion | Folder | None:
            return lake.stat("hr/a")

    rig = Rig({"/lake": Switching("memory:lake")})
    with pytest.raises(VersionGone, match="link"):
        rig.service.open(path("/lake/open/a"))
    rig.service.close()


def test_large_reads_fetch_several_ranges_at_once(lake: MemoryBackend) -> None:
    """Four requests must be under way together, or the barrier breaks and the read fails."""
    rig = Rig({"/lake": lake}, memory_bytes=4096 * PAGE)
    data = os.urandom(4 * (8 << 20))
    lake.put("a", data)
    together = threading.Barrier(4, timeout=20)

    def meet(version: ObjectVersion, start: int) -> None:
        together.wait()

    lake.before_read = meet
    assert whole(rig.service.open(path("/lake/a"))) == data
    rig.service.close()


def test_what_waits_to_be_sealed_makes_a_fill_wait_and_not_lose_its_pages(
    lake: MemoryBackend,
) -> None:
    class SlowTier(DictTier):
        """Keeps views, as a write-behind tier does, until it is flushed."""

        def __init__(self) -> None:
            super().__init__()
            self.waiting: list[tuple[PageId, memoryview]] = []

        def store(self, pages: Sequence[tuple[PageId, memoryview]]) -> None:
            self.waiting.extend(pages)

        def flush(self) -> None:
            waiting, self.waiting = self.waiting, []
            super().store(waiting)

    rig = Rig({"/lake": lake}, memory_bytes=16 * PAGE, ssd=SlowTier())
    for number in range(20):
        lake.put(f"o{number}", bytes([number]) * (4 * PAGE))
        whole(rig.service.open(path(f"/lake/o{number}")))
    rig.service.flush()
    assert rig.ssd is not None and len(rig.ssd.pages) == 80
    rig.service.close()


def test_a_large_folder_is_listed_as_it_arrives() -> None:
    lake = MemoryBackend("memory:lake", page_children=1000)
    for number in range(5000):
        lake.put(f"d/{number:04}", b"")
    rig = Rig({"/lake": lake})
    entries = rig.service.list(path("/lake/d"))
    next(entries)
    assert lake.asked["list"] == 1
    assert sum(1 for _ in entries) == 4999
    assert lake.asked["list"] == 5
    rig.service.close()


def test_reading_uncached_lines_asks_for_blocks_and_keeps_nothing(
    governed: Rig, lake: MemoryBackend
) -> None:
    lines = b"".join(b"line %d\n" % number for number in range(20_000))
    lake.put("stream/lines", lines)
    with HeadraceFile(governed.service.open(path("/lake/stream/lines"))) as file:
        assert list(file) == lines.splitlines(keepends=True)
    assert lake.asked["read"] <= 2
    assert governed.memory.usage().used == 0


def test_tiny_objects_are_charged_for_their_bookkeeping(lake: MemoryBackend) -> None:
    rig = Rig({"/lake": lake}, memory_bytes=16 * PAGE)
    for number in range(2000):
        lake.put(str(number), b"x")
        whole(rig.service.open(path(f"/lake/{number}")))
    usage = rig.memory.usage()
    assert usage.used <= 16 * PAGE and usage.objects <= 16 * PAGE // OBJECT_BYTES
    rig.service.close()


def test_a_pinned_mount_keeps_its_first_answer(lake: MemoryBackend) -> None:
    lake.put("d/a", b"one")
    rig = Rig({"/lake": lake}, freshness=PINNED)
    assert whole(rig.service.open(path("/lake/d/a"))) == b"one"
    lake.put("d/a", b"two")
    list(rig.service.list(path("/lake/d")))
    assert whole(rig.service.open(path("/lake/d/a"), CHECK)) == b"two"
    assert whole(rig.service.open(path("/lake/d/a"))) == b"one"
    rig.service.close()
