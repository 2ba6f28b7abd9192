"""A wrapper that makes a request again where that can help; it changes nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from headrace_namespace.backends.protocol import (
    Backend,
    Expected,
    Folder,
    ListPage,
    Upload,
)
from headrace_namespace.backends.slow_down import SlowDown
from headrace_namespace.backends.wrapper import WrappedBackend, WrappedUpload
from headrace_namespace.clock import Clock
from headrace_namespace.errors import (
    AlreadyExists,
    HeadraceError,
    NotFound,
    StoreMissing,
    StoreUnavailable,
    VersionGone,
    WriteConflict,
)
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
    """Asks again while the error says that this can help, within the policy's bounds.

    A write whose answer was lost may have been made. Asked again, a store may then refuse it for
    its own sake: the condition no longer holds. Such a refusal is looked into, and never passed on
    for a write that was ours. `rename` is not tried again.
    """

    def __init__(self, inner: Backend, clock: Clock, policy: RetryPolicy, random: Random) -> None:
        super().__init__(inner)
        self._clock = clock
        self._policy = policy
        self._random = random

    def stat(self, key: str) -> ObjectVersion | Folder | None:
        """As the store's, tried again."""
        return self.persist(lambda: self.inner.stat(key))

    def list_page(self, ref: ObjectRef, token: str | None) -> ListPage:
        """As the store's, tried again."""
        return self.persist(lambda: self.inner.list_page(ref, token))

    def read_into(self, version: ObjectVersion, start: int, target: memoryview) -> None:
        """As the store's, tried again from the start of the range."""
        self.persist(lambda: self.inner.read_into(version, start, target))

    def put(self, ref: ObjectRef, data: memoryview, expected: Expected) -> ObjectVersion:
        """As the store's, tried again. What a lost answer left there is known by its bytes."""

        def ours(found: ObjectVersion) -> bool:
            return found.size == data.nbytes and self._holds(found, data)

        return self._write(lambda: self.inner.put(ref, data, expected), ours)

    def begin_upload(
        self, ref: ObjectRef, expected: Expected, base: ObjectVersion | None = None
    ) -> Upload:
        """As the store's, tried again; so are its parts and its commit, which knows its own."""
        begun = self.persist(lambda: self.inner.begin_upload(ref, expected, base))
        return _RetryingUpload(begun, self)

    def copy(self, source: ObjectVersion, ref: ObjectRef, expected: Expected) -> ObjectVersion:
        """As the store's, tried again. What a lost answer left there is known by the source's tag;
        where the store gave it another, StoreUnavailable says that nobody knows."""

        def ours(found: ObjectVersion) -> bool:
            if (found.tag, found.size) == (source.tag, source.size):
                return True
            lost = StoreUnavailable(
                f"the answer to the copy onto {ref.key} was lost, and what is there now may be the "
                "copy or another object",
                store=self.name,
                hint="look at it before trying again",
            )
            lost.retriable = False
            raise lost

        return self._write(lambda: self.inner.copy(source, ref, expected), ours)

    def delete(self, keys: Sequence[str]) -> Mapping[str, HeadraceError]:
        """As the store's; those keys are tried again for which that can help."""
        wrong: dict[str, HeadraceError] = {}
        left = list(keys)

        def ask() -> None:
            answers = self.inner.delete(left)
            wrong.update(answers)
            for key in left:
                if key not in answers:
                    wrong.pop(key, None)
            left[:] = [key for key, error in answers.items() if error.retriable]
            if left:
                raise answers[left[0]]

        try:
            self.persist(ask)
        except HeadraceError:
            if not wrong:
                raise
        return wrong

    def make_folder(self, key: str) -> None:
        """As the store's, tried again; after a lost answer, a folder that is there is ours."""
        unsure = False

        def ask() -> None:
            nonlocal unsure
            try:
                self.inner.make_folder(key)
            except AlreadyExists:
                if not unsure or self.inner.stat(key) != Folder():
                    raise
            except HeadraceError as error:
                unsure = unsure or _may_be_made(error)
                raise

        self.persist(ask)

    def remove_folder(self, key: str) -> None:
        """As the store's, tried again; after a lost answer, nothing there means it is removed."""
        unsure = False

        def ask() -> None:
            nonlocal unsure
            try:
                self.inner.remove_folder(key)
            except HeadraceError as error:
                if unsure and isinstance(error, NotFound) and not isinstance(error, StoreMissing):
                    return
                unsure = unsure or _may_be_made(error)
                raise

        self.persist(ask)

    def persist(self, request: Callable[[], _T]) -> _T:
        """What `request` answers, made again within the policy's bounds."""
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

    def _write(
        self, request: Callable[[], ObjectVersion], ours: Callable[[ObjectVersion], bool]
    ) -> ObjectVersion:
        """A write of one whole object; `ours` tells whether what is found there is what we sent."""
        unsure = False

        def ask() -> ObjectVersion:
            nonlocal unsure
            try:
                return request()
            except (WriteConflict, AlreadyExists) as conflict:
                if unsure and conflict.found is not None and ours(conflict.found):
                    return conflict.found
                raise
            except HeadraceError as error:
                unsure = unsure or _may_be_made(error)
                raise

        return self.persist(ask)

    def _holds(self, found: ObjectVersion, data: memoryview) -> bool:
        there = bytearray(found.size)
        try:
            self.inner.read_into(found, 0, memoryview(there))
        except VersionGone:
            return False  # another has written since: the conflict is a true one by now
        return memoryview(there) == data.cast("B")


class _RetryingUpload(WrappedUpload):
    def __init__(self, inner: Upload, backend: RetryingBackend) -> None:
        super().__init__(inner)
        self._backend = backend

    def put_part(self, index: int, data: memoryview) -> None:
        self._backend.persist(lambda: self.inner.put_part(index, data))

    def commit(self, parts: int) -> ObjectVersion:
        return self._backend.persist(lambda: self.inner.commit(parts))


def _may_be_made(error: HeadraceError) -> bool:
    """Whether a write that ended so may have been made: its answer was lost, not refused."""
    return error.retriable and not error.answered and not isinstance(error, SlowDown)
