from __future__ import annotations

from collections.abc import Iterator

from headrace_cache.eviction.second_chance import MOST_SPARED, Candidate, Choice, choose


def test_the_oldest_unused_leaves() -> None:
    queue = [Candidate(1, True), Candidate(2, True), Candidate(3, False), Candidate(4, False)]
    assert choose(queue) == Choice(3, (1, 2))


def test_where_all_are_used_the_oldest_leaves() -> None:
    assert choose([Candidate(1, True), Candidate(2, True)]) == Choice(1, (2,))


def test_nothing_to_choose_from() -> None:
    assert choose([]) == Choice(None, ())


def test_the_walk_is_bounded_and_lazy() -> None:
    read: list[int] = []

    def endless() -> Iterator[Candidate]:
        while True:
            read.append(len(read))
            yield Candidate(read[-1], True)

    assert choose(endless()).victim == 0
    assert len(read) == MOST_SPARED
