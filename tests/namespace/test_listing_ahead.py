"""A page ahead of who reads a listing, and never more than one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from headrace_namespace.backends.protocol import Listed, ListPage
from headrace_namespace.errors import StoreTimeout, StoreUnavailable
from headrace_namespace.listing_ahead import pages, pages_ahead
from headrace_namespace.offload import Offload


class _ByHand(Offload):
    """Does what is submitted at once, or where `holds` when it is told to."""

    def __init__(self) -> None:
        super().__init__(1)
        self.held: list[Callable[[], object]] = []
        self.holds = False
        self.is_closed = False

    def submit(self, work: Callable[[], object]) -> None:
        if self.is_closed:
            raise StoreTimeout("closed")
        if self.holds:
            self.held.append(work)
            return
        self.holds = True  # what it asks for in turn is held
        work()


class _Store:
    """A listing of `count` pages of one name each; remembers which were asked for."""

    def __init__(self, count: int, broken: int | None = None) -> None:
        self.asked: list[int] = []
        self._count = count
        self._broken = broken

    def ask(self, token: str | None) -> ListPage:
        number = int(token or "0")
        self.asked.append(number)
        if number == self._broken:
            raise StoreUnavailable("gone")
        following = str(number + 1) if number + 1 < self._count else None
        return ListPage((Listed(f"name-{number}", None),), following)


def names(listing: Iterator[ListPage]) -> list[str]:
    return [child.name for page in listing for child in page.children]


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_all_pages_come_once_and_in_order(count: int) -> None:
    expected = [f"name-{number}" for number in range(count)]
    plain, ahead = _Store(count), _Store(count)
    looks = Offload(2)
    try:
        assert names(pages(plain.ask)) == names(pages_ahead(ahead.ask, looks)) == expected
    finally:
        looks.close()
    assert plain.asked == ahead.asked == list(range(count))


def test_one_page_is_asked_for_ahead_and_only_after_a_second_was_wanted() -> None:
    store, looks = _Store(5), _ByHand()
    listing = pages_ahead(store.ask, looks)
    next(listing)
    assert store.asked == [0] and not looks.held, "a look at the first names costs one request"

    looks.holds = False
    next(listing)
    assert store.asked == [0, 1] and len(looks.held) == 1, "the third is asked for"

    looks.held.pop()()
    assert store.asked == [0, 1, 2] and not looks.held, "the third is there, and not wanted yet"

    next(listing)
    assert store.asked == [0, 1, 2] and len(looks.held) == 1


def test_an_error_reaches_its_reader_in_its_turn() -> None:
    store, looks = _Store(5, broken=3), Offload(2)
    listing = pages_ahead(store.ask, looks)
    try:
        assert [next(listing).children[0].name for _ in range(3)] == ["name-0", "name-1", "name-2"]
        with pytest.raises(StoreUnavailable, match="gone"):
            next(listing)
    finally:
        looks.close()
    assert store.asked == [0, 1, 2, 3]


def test_a_listing_ends_with_an_error_where_its_threads_were_closed() -> None:
    store, looks = _Store(3), _ByHand()
    listing = pages_ahead(store.ask, looks)
    next(listing)
    looks.is_closed = True
    with pytest.raises(StoreTimeout, match="closed"):
        next(listing)
