"""What every page tier promises (`headrace_cache.tiers.protocol`). Inherit, say how to make one."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator

import pytest

from headrace_cache.extents.page import PageId
from headrace_cache.policy.scope import Scope
from headrace_cache.tiers.protocol import PageTier
from headrace_namespace.path import NamespacePath
from headrace_namespace.resolution import Name

PAGE_BYTES = 1 << 20

#: Around every border: of a page, of what is compressed on trial, of nothing.
LENGTHS = (1, 15, 16, 17, 4096, 65535, 65536, 65537, PAGE_BYTES - 1, PAGE_BYTES)


def version(number: int) -> bytes:
    return random.Random(number).randbytes(16)


def random_page(page: PageId, length: int) -> bytes:
    return random.Random(page.version + page.index.to_bytes(8, "little")).randbytes(length)


def text_page(page: PageId, length: int) -> bytes:
    line = f"{page.version.hex()},{page.index},some words that come again and again\n".encode()
    return (line * (length // len(line) + 1))[:length]


def scope_of(*folders: str, tags: frozenset[str] | None = frozenset()) -> Scope:
    """The scope of an object in these folders of the mount `/lake`."""
    mount = NamespacePath("/lake")
    return Scope(frozenset(Name(NamespacePath(folder), mount, tags) for folder in folders))


FOLDER = scope_of("/lake/open")


def stored(tier: PageTier, page: PageId, data: bytes, scope: Scope = FOLDER) -> None:
    tier.store([(page, memoryview(data))], scope)


def loaded(tier: PageTier, page: PageId, length: int) -> bytes | None:
    target = bytearray(length)
    return bytes(target) if tier.load([(page, memoryview(target))]) == [True] else None


class PageTierSuite:
    """Sentences of the protocol, as tests. The tier must have room for 16 MiB."""

    def make_tier(self) -> PageTier:
        raise NotImplementedError

    @pytest.fixture
    def tier(self, prepare: None) -> Iterator[PageTier]:
        tier = self.make_tier()
        yield tier
        tier.close()

    @pytest.fixture
    def prepare(self) -> None:
        """For what `make_tier` needs; override it with what asks for fixtures."""

    @pytest.mark.parametrize("length", LENGTHS)
    @pytest.mark.parametrize("content", [random_page, text_page])
    def test_what_comes_back_is_what_was_stored(
        self, tier: PageTier, length: int, content: type
    ) -> None:
        page = PageId(version(1), 7)
        data = content(page, length)
        stored(tier, page, data)
        tier.flush()
        assert tier.holds(page)
        assert loaded(tier, page, length) == data

    def test_what_was_not_stored_is_nothing(self, tier: PageTier) -> None:
        stored(tier, PageId(version(1), 0), b"x" * 100)
        tier.flush()
        for page in (PageId(version(1), 1), PageId(version(2), 0), PageId(version(1), 1 << 40)):
            assert not tier.holds(page)
            assert loaded(tier, page, 100) is None

    def test_a_batch_answers_page_by_page(self, tier: PageTier) -> None:
        pages = [PageId(version(number), index) for number in range(5) for index in range(4)]
        kept = pages[::2]
        tier.store(
            [(page, memoryview(random_page(page, 5000 + page.index))) for page in kept], FOLDER
        )
        tier.flush()
        targets = [bytearray(5000 + page.index) for page in pages]
        answers = tier.load(
            [(page, memoryview(target)) for page, target in zip(pages, targets, strict=True)]
        )
        assert answers == [page in kept for page in pages]
        for page, target, answer in zip(pages, targets, answers, strict=True):
            assert not answer or bytes(target) == random_page(page, len(target))

    def test_an_empty_batch_is_no_matter(self, tier: PageTier) -> None:
        tier.store([], FOLDER)
        tier.store_each([])
        assert tier.load([]) == []

    def test_a_target_of_another_length_is_not_filled(self, tier: PageTier) -> None:
        page = PageId(version(1), 0)
        stored(tier, page, random_page(page, 3000))
        tier.flush()
        assert loaded(tier, page, 2999) is None
        assert loaded(tier, page, 3001) is None
        assert loaded(tier, page, 3000) == random_page(page, 3000)

    def test_storing_again_costs_no_room(self, tier: PageTier) -> None:
        page = PageId(version(1), 0)
        stored(tier, page, random_page(page, 100_000))
        tier.flush()
        before = tier.usage().used
        for _ in range(10):
            stored(tier, page, random_page(page, 100_000))
            tier.flush()
        assert tier.usage().used - before < 100_000
        assert loaded(tier, page, 100_000) == random_page(page, 100_000)

    def test_forgetting_takes_one_version_and_says_how_much(self, tier: PageTier) -> None:
        pages = [PageId(version(number), index) for number in (1, 2) for index in range(3)]
        for page in pages:
            stored(tier, page, random_page(page, 2000))
        tier.flush()
        assert tier.usage().objects == 2
        assert tier.forget(version(1)) == 6000
        assert tier.forget(version(1)) == 0
        assert [tier.holds(page) for page in pages] == [False] * 3 + [True] * 3
        assert loaded(tier, pages[0], 2000) is None
        assert loaded(tier, pages[3], 2000) == random_page(pages[3], 2000)
        assert tier.usage().objects == 1

    def test_a_forgotten_version_can_be_stored_again(self, tier: PageTier) -> None:
        page = PageId(version(1), 0)
        for _ in range(3):
            stored(tier, page, random_page(page, 2000))
            tier.flush()
            assert loaded(tier, page, 2000) == random_page(page, 2000)
            assert tier.forget(version(1)) == 2000
            assert loaded(tier, page, 2000) is None

    def test_usage_stays_below_the_limit(self, tier: PageTier) -> None:
        limit = tier.usage().limit
        for number in range(2 * limit // PAGE_BYTES):
            page = PageId(version(number), 0)
            stored(tier, page, random_page(page, PAGE_BYTES))
            usage = tier.usage()
            assert usage.used <= limit == usage.limit

    def test_many_threads_store_and_load_at_once(self, tier: PageTier) -> None:
        wrong: list[PageId] = []
        start = threading.Barrier(8)

        def work(seed: int) -> None:
            chance = random.Random(seed)
            start.wait()
            for _ in range(60):
                page = PageId(version(chance.randrange(6)), chance.randrange(8))
                data = random_page(page, 3000 + page.index)
                if chance.random() < 0.5:
                    stored(tier, page, data)
                elif loaded(tier, page, len(data)) not in (None, data):
                    wrong.append(page)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []

    def test_a_purge_takes_what_its_scopes_cover_and_says_so(self, tier: PageTier) -> None:
        secret, both = scope_of("/lake/hr"), scope_of("/lake/links", "/alias/hr")
        pages = [PageId(version(number), index) for number in range(3) for index in range(2)]
        for page, scope in zip(pages, [FOLDER] * 2 + [secret] * 2 + [both] * 2, strict=True):
            stored(tier, page, random_page(page, 1000), scope)
        assert tier.purge(lambda _: False) is None
        report = tier.purge(lambda scope: any("hr" in name.path.text for name in scope.folders))
        tier.flush()
        assert [tier.holds(page) for page in pages] == [True, True, False, False, False, False]
        assert loaded(tier, pages[2], 1000) is None
        assert loaded(tier, pages[0], 1000) == random_page(pages[0], 1000)
        if report is not None:  # None: they were purged while they waited
            assert set(report.scopes) <= {secret, both} and report.verified and report.method
            # Of an object one page may have been stored while the other waited.
            assert 1000 * report.objects <= report.bytes <= 2000 * report.objects

    def test_what_was_stored_is_what_a_purge_reports(self, tier: PageTier) -> None:
        for number in range(3):
            stored(tier, PageId(version(number), 5), b"x" * 70, scope_of("/lake/hr"))
        tier.flush()
        report = tier.purge(lambda _: True)
        assert report is not None
        assert (set(report.scopes), report.objects, report.bytes) == (
            {scope_of("/lake/hr")},
            3,
            210,
        )
        assert tier.usage().objects == 0
        assert tier.purge(lambda _: True) is None

    def test_scopes_come_back_as_they_were(self, tier: PageTier) -> None:
        mount = NamespacePath("/lake")
        odd = [
            Name(
                NamespacePath("/lake/\u00e9\udcff \U0001f41f\n[]"), mount, frozenset({"b=1", "a"})
            ),
            Name(NamespacePath("/"), None, None),
            Name(NamespacePath("/" + "x" * 4000), mount, None),
        ]
        scopes = [Scope(frozenset(odd)), scope_of("/lake/a"), scope_of("/lake/a", tags=None)]
        for number, scope in enumerate(scopes):
            stored(tier, PageId(version(number), 0), b"data", scope)
        tier.flush()
        seen: list[Scope] = []

        def covers(scope: Scope) -> bool:
            seen.append(scope)
            return False

        assert tier.purge(covers) is None
        assert set(seen) == set(scopes)

    def test_a_purged_object_can_be_stored_again(self, tier: PageTier) -> None:
        page = PageId(version(1), 0)
        for _ in range(3):
            stored(tier, page, random_page(page, 2000))
            tier.flush()
            assert loaded(tier, page, 2000) == random_page(page, 2000)
            assert tier.purge(lambda _: True) is not None
            assert not tier.holds(page)

    def test_pages_of_several_scopes_go_in_one_batch(self, tier: PageTier) -> None:
        pages = [PageId(version(number % 7), number) for number in range(40)]
        tier.store_each(
            [
                (page, memoryview(random_page(page, 900)), scope_of(f"/lake/{page.index % 7}"))
                for page in pages
            ]
        )
        tier.flush()
        assert all(loaded(tier, page, 900) == random_page(page, 900) for page in pages)
        assert tier.usage().objects == 7
        assert tier.purge(lambda scope: scope == scope_of("/lake/3")) is not None
        assert [tier.holds(page) for page in pages] == [page.index % 7 != 3 for page in pages]

    def test_inspecting_says_what_is_held_by_index(self, tier: PageTier) -> None:
        start = int(time.time())
        for index in (7, 2, 300):
            page = PageId(version(1), index)
            stored(tier, page, random_page(page, 1000 + index))
        tier.flush()
        held = tier.inspect(version(1))
        assert [(page.index, page.bytes) for page in held] == [(2, 1002), (7, 1007), (300, 1300)]
        assert all(start <= page.stored_at <= time.time() for page in held)
        assert list(tier.inspect(version(2))) == []

    def test_what_is_too_old_expires(self, tier: PageTier) -> None:
        for index in range(3):
            stored(tier, PageId(version(1), index), b"x" * 100)
        stored(tier, PageId(version(2), 0), b"x" * 100)
        tier.flush()
        assert tier.expire(version(1), 1_000_000_000.0) == 0
        assert tier.expire(version(1), time.time() + 10) == 300
        assert not any(tier.holds(PageId(version(1), index)) for index in range(3))
        assert tier.holds(PageId(version(2), 0))
        assert tier.usage().objects == 1

    def test_pins_are_remembered_until_they_are_taken_back(self, tier: PageTier) -> None:
        for number in (1, 2):
            stored(tier, PageId(version(number), 0), b"x" * 100)
        tier.flush()
        assert not tier.pinned(version(1)) and not tier.unpin(version(1))
        assert tier.pin(version(1)) and tier.pin(version(1))
        assert tier.pinned(version(1)) and not tier.pinned(version(2))
        assert tier.unpin(version(1)) and not tier.pinned(version(1))

    def test_pins_go_with_what_is_forgotten_or_purged(self, tier: PageTier) -> None:
        for number in (1, 2):
            stored(tier, PageId(version(number), 0), b"x" * 100)
        tier.flush()
        assert tier.pin(version(1)) and tier.pin(version(2))
        tier.forget(version(1))
        tier.purge(lambda _: True)
        assert not tier.pinned(version(1)) and not tier.pinned(version(2))

    def test_a_closed_tier_holds_nothing_and_does_not_fail(self, tier: PageTier) -> None:
        page = PageId(version(1), 0)
        stored(tier, page, b"data")
        tier.close()
        stored(tier, page, b"data")
        assert loaded(tier, page, 4) is None
        assert not tier.holds(page)
        assert tier.forget(version(1)) == 0
        assert list(tier.inspect(version(1))) == [] and tier.expire(version(1), time.time()) == 0
        assert not tier.pin(version(1)) and not tier.pinned(version(1))
        tier.flush()
        tier.close()
