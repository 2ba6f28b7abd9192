"""Small objects that many threads wake, forget, withdraw and push out at once."""

from __future__ import annotations

import random
import threading

import pytest

from tests.effort import EFFORT
from tests.fakes.local_cache import PAGE
from tests.fakes.shelf import FREE, HR, LAKE, SECRET, Shelf, content_of, version_of

TURNS = 4000 * EFFORT
THREADS = 4
SIZES = (100, 5000, PAGE // 4, PAGE)
VERSIONS = [version_of(number, size=SIZES[number % len(SIZES)]) for number in range(400)]


class Jobs:
    """What each thread does, by chance."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self.failures: list[BaseException] = []

    def run(self, seed: int) -> None:
        chance = random.Random(seed)
        try:
            for _ in range(TURNS):
                self._turn(chance)
        except BaseException as failure:
            self.failures.append(failure)

    def _turn(self, chance: random.Random) -> None:
        store, what = self.shelf.store, chance.random()
        version = chance.choice(VERSIONS)
        placement, scope = chance.choice((FREE, SECRET)), chance.choice((LAKE, HR))
        if what < 0.01:
            store.withdraw(lambda known, at: at == placement and scope.within(known))
        elif what < 0.1:
            store.forget(self.shelf.attach(version, placement, scope))
        elif what < 0.2:
            usage = store.usage()["memory"]
            assert usage.used <= usage.limit
        elif what < 0.4 and self.shelf.memory.lends:
            loan = store.lend(self.shelf.attach(version, placement, scope), range(1), ())
            if loan is not None:
                assert bytes(loan.extent.mapping[loan.shift :][: loan.stop]) == content_of(version)
                store.give_back(loan.extent.number)
        else:
            self._read(chance)

    def _read(self, chance: random.Random) -> None:
        version = chance.choice(VERSIONS)
        held = self.shelf.attach(version, chance.choice((FREE, SECRET)), chance.choice((LAKE, HR)))
        span = held.spans.get(0)
        if span is not None and span.complete:
            try:
                read = span.extent.mapping[span.place(0, held.size)]
            except ValueError:
                return  # it left the tier just now
            assert read == content_of(version)
            return
        fill = self.shelf.store.begin_fill(held, range(1))
        if fill is None:
            return
        with fill:
            with fill.target(range(1)) as target:
                target[:] = content_of(version)
            if chance.random() < 0.9:  # else its store failed
                fill.publish([0])


@pytest.mark.parametrize("lends", [False, True], ids=["own", "lent"])
def test_what_rests_is_right_and_all_of_it_is_charged(lends: bool) -> None:
    shelf = Shelf(lends=lends, memory_bytes=16 * PAGE)
    jobs = Jobs(shelf)
    threads = [threading.Thread(target=jobs.run, args=(seed,)) for seed in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not jobs.failures
    extents = tuple(shelf.memory._extents)  # pyright: ignore[reportPrivateUsage]
    assert sum(extent.bytes_held for extent in extents) == shelf.memory.usage().used
    shelf.store.withdraw(lambda _, __: True)
    assert not any(shelf.has(version, at) for version in VERSIONS for at in (FREE, SECRET))
    assert shelf.memory.usage().objects == 0
    shelf.store.close()
    assert shelf.memory.usage().used == 0
