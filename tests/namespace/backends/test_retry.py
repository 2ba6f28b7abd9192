from __future__ import annotations

import random

import pytest

from headrace_namespace.backends.protocol import Folder
from headrace_namespace.backends.retry import RetryingBackend, RetryPolicy
from headrace_namespace.backends.slow_down import SlowDown
from headrace_namespace.errors import (
    AccessRefused,
    HeadraceError,
    StoreTimeout,
    StoreUnavailable,
)
from headrace_namespace.identity import ObjectVersion
from tests.fakes.clock import ManualClock
from tests.fakes.memory_backend import MemoryBackend

POLICY = RetryPolicy(attempts=5, first_delay=1.0, longest_delay=3.0, total_seconds=60.0)


class RecordingClock(ManualClock):
    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        super().sleep(seconds)


class Failing(MemoryBackend):
    """Raises the given errors, one a request, then works."""

    def __init__(self, *errors: HeadraceError, clock: ManualClock | None = None) -> None:
        super().__init__()
        self.errors = list(errors)
        self.stats = 0
        self.takes = 0.0
        self.clock = clock

    def stat(self, key: str) -> ObjectVersion | Folder | None:
        self.stats += 1
        if self.clock is not None:
            self.clock.time += self.takes
        if self.errors:
            raise self.errors.pop(0)
        return Folder()


class Always(random.Random):
    """The largest pause each time."""

    def random(self) -> float:
        return 1.0


def test_what_can_help_is_done_with_growing_pauses() -> None:
    clock = RecordingClock()
    inner = Failing(*(StoreUnavailable("broke") for _ in range(4)))
    assert RetryingBackend(inner, clock, POLICY, Always()).stat("") == Folder()
    assert clock.slept == [1.0, 2.0, 3.0, 3.0]


def test_pauses_are_spread_at_random() -> None:
    pauses = {POLICY.pause(3, random.Random(seed).random()) for seed in range(50)}
    assert len(pauses) == 50 and 0 <= min(pauses) < 0.5 < 2.5 < max(pauses) <= 3.0


def test_what_cannot_help_is_not_done() -> None:
    clock = RecordingClock()
    inner = Failing(AccessRefused("no"))
    with pytest.raises(AccessRefused, match="^no$"):
        RetryingBackend(inner, clock, POLICY, Always()).stat("")
    assert inner.stats == 1 and clock.slept == []


def test_attempts_are_bounded_and_told() -> None:
    inner = Failing(*(StoreTimeout("slow") for _ in range(9)))
    with pytest.raises(StoreTimeout, match="slow, after 5 attempts in 9.0 s"):
        RetryingBackend(inner, RecordingClock(), POLICY, Always()).stat("")
    assert inner.stats == 5


def test_the_total_time_is_bounded() -> None:
    clock = RecordingClock()
    inner = Failing(*(StoreTimeout("slow") for _ in range(9)), clock=clock)
    inner.takes = 29.0
    with pytest.raises(StoreTimeout, match="after 3 attempts"):
        RetryingBackend(inner, clock, RetryPolicy(total_seconds=60.0), Always()).stat("")


def test_the_stores_own_pause_is_granted() -> None:
    clock = RecordingClock()
    inner = Failing(SlowDown("busy", wait_seconds=20.0))
    assert RetryingBackend(inner, clock, POLICY, Always()).stat("") == Folder()
    assert clock.slept == [20.0]


def test_a_pause_beyond_the_bound_is_not_waited_for() -> None:
    clock = RecordingClock()
    inner = Failing(SlowDown("busy", wait_seconds=3600.0))
    with pytest.raises(SlowDown):
        RetryingBackend(inner, clock, POLICY, Always()).stat("")
    assert clock.slept == []


def test_many_attempts_do_not_overflow() -> None:
    assert RetryPolicy(attempts=10_000).pause(9_999, 1.0) == 5.0
