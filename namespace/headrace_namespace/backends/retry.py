"""A wrapper that makes a request again where that can help; it changes nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from headrace_namespace.backends.protocol import Backend, Folder, ListPage
from headrace_namespace.backends.slow_down import SlowDown
from headrace_namespace.backends.wrapper import WrappedBackend
from headrace_namespace.clock import Clock
from headrace_namespace.errors import HeadraceError
from headrace_namespace.identity import ObjectRef, ObjectVersion

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """At most `attempts` in all, and none begun later than `total_seconds` after the first.

    The n-th pause is a random part of `first_delay * 2**n`, at most `longest_delay` (seconds): a
    crowd of clients that failed together must not come back together.
    """

    attempts: int = 5
    first_delay: float = 0.1  # several round trips: a lost connection is back by then
    longest_delay: float = 5.0  # a store that throttles has let go by then
    total_seconds: float = 60.0  # a person waits no longer

    def pause(self, failed: int, random: float) -> float:
        """The pause after `failed` attempts; `random` is from 0 to 1."""
        # The exponent is held back so that no number of attempts overflows.
        return random * min(self.longest_delay, self.first_delay * 2.0 ** min(failed - 1, 32))


class RetryingBackend(WrappedBackend):
    """Asks again while the error says that this can help, within the policy's bounds."""

    def __init__(self, inner: Backend, clock: Clock, policy: RetryPolicy, random: Random) -> None:
        super().__init__(inner)
        self._clock = clock
        self._policy = policy
        self._random = random

    def stat(self, key: str) -> ObjectVersion | Folder | None:
        """As the store's, tried again."""
        return self._persist(lambda: self.inner.stat(key))

    def list_page(self, ref: ObjectRef, token: str | None) -> ListPage:
        """As the store's, tried again."""
        return self._persist(lambda: self.inner.list_page(ref, token))

    def read_into(self, version: ObjectVersion, start: int, target: memoryview) -> None:
        """As the store's, tried again from the start of the range."""
        self._persist(lambda: self.inner.read_into(version, start, target))

    def _persist(self, request: Callable[[], _T]) -> _T:
        begun = self._clock.monotonic()
        failed = 0
        while True:
            try:
                return request()
            except HeadraceError as error:
                failed += 1
                pause = self._policy.pause(failed, self._random.random())
                if isinstance(error, SlowDown):
                    pause = max(pause, error.wait_seconds)
                spent = self._clock.monotonic() - begun
                if (
                    not error.retriable
                    or failed >= self._policy.attempts
                    or spent + pause > self._policy.total_seconds
                ):
                    if failed > 1:
                        error.message += f", after {failed} attempts in {spent:.1f} s"
                    raise
            self._clock.sleep(pause)
