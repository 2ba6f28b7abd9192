"""What every page tier promises (`headrace_cache.tiers.protocol`). Inherit, say how to make one."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator

import pytest

from headrace_cache.page import PageId
from headrace_cache.tiers.protocol import PageTier

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


def stored(tier: PageTier, page: PageId, data: bytes) -> None:
    tier.store([(page, memoryview(data))])


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
        tier.store([(page, memoryview(random_page(page, 5000 + page.index))) for page in kept])
        tier.flush()
        targets = [bytearray(5000 + page.index) for page in pages]
        answers = tier.load(
            [(page, memoryview(target)) for page, target in zip(pages, targets, strict=True)]
        )
        assert answers == [page in kept for page in pages]
        for page, target, answer in zip(pages, targets, answers, strict=True):
            assert not answer or bytes(target) == random_page(page, len(target))

    def test_an_empty_batch_is_no_matter(self, tier: PageTier) -> None:
        tier.store([])
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

    def test_a_closed_tier_holds_nothing_and_does_not_fail(self, tier: PageTier) -> None:
        page = PageId(version(1), 0)
        stored(tier, page, b"data")
        tier.close()
        stored(tier, page, b"data")
        assert loaded(tier, page, 4) is None
        assert not tier.holds(page)
        assert tier.forget(version(1)) == 0
        tier.flush()
        tier.close()
