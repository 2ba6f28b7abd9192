"""Making a write only where its condition holds.

S3 takes conditions as If-Match and If-None-Match, and AWS keeps them all, atomically. Other stores
differ, and none says so: Ceph (16) compares If-Match only without its quotes, ignores conditions
where an upload is completed or an object copied, and in versioned buckets it ignores If-None-Match
and refuses every If-Match. So elsewhere than at AWS we also look right before the write, and where
a store refuses a condition that plainly holds, we go on without it. What remains there is the time
of one request in which another's write can be lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from headrace_namespace.backends.protocol import Expected, There
from headrace_namespace.backends.s3.client import S3Client
from headrace_namespace.backends.s3.errors import Fault
from headrace_namespace.errors import AlreadyExists, WriteConflict
from headrace_namespace.identity import ObjectRef, ObjectVersion

_T = TypeVar("_T")

#: How a store may want an ETag to be written, and last: not at all.
_SPELLINGS: tuple[Callable[[str], dict[str, str]], ...] = (
    lambda tag: {"If-Match": f'"{tag}"'},
    lambda tag: {"If-Match": tag},
    lambda tag: {},
)
_QUOTED, _WITHOUT = 0, len(_SPELLINGS) - 1


class Conditions:
    """Writes to one bucket under conditions. `look` shows what a full key is now; `trusted` is
    whether the store keeps what it is told. Thread-safe."""

    def __init__(
        self,
        client: S3Client,
        look: Callable[[str], ObjectVersion | None],
        store: str,
        *,
        trusted: bool,
    ) -> None:
        self._client = client
        self._look = look
        self._store = store
        self._trusted = trusted
        # What worked last; the next write begins with it.
        self._spelling = _QUOTED

    def write(
        self, ref: ObjectRef, expected: Expected, send: Callable[[Mapping[str, str]], _T]
    ) -> _T:
        """What `send` makes of the headers that carry the condition.

        Raises WriteConflict or AlreadyExists, with what is there instead.
        """
        if expected is There.ANYTHING:
            return self._sent(send, {})
        if not self._trusted or (isinstance(expected, ObjectVersion) and not expected.strong):
            self._check(ref, expected)
        for spelling, headers in self._spellings(expected):
            try:
                made = send(headers)
            except Fault as fault:
                if not headers or not _refused(fault):
                    error = self._client.error(fault)
                    error.answered = _answered(fault)
                    raise error from fault
            else:
                if isinstance(expected, ObjectVersion):
                    self._spelling = spelling
                return made
            self._check(ref, expected)
        raise conflict_of(ref, expected, None, self._store)

    def _spellings(self, expected: Expected) -> list[tuple[int, dict[str, str]]]:
        if isinstance(expected, ObjectVersion):
            if not expected.strong:
                return [(_WITHOUT, {})]
            spelled = [(number, spell(expected.tag)) for number, spell in enumerate(_SPELLINGS)]
            return spelled[:1] if self._trusted else spelled[self._spelling :]
        fresh: list[tuple[int, dict[str, str]]] = [(_QUOTED, {"If-None-Match": "*"})]
        return fresh if self._trusted else [*fresh, (_WITHOUT, {})]

    def _check(self, ref: ObjectRef, expected: Expected) -> None:
        found = self._look(ref.key)
        if found != (None if expected is There.NOTHING else expected):
            raise conflict_of(ref, expected, found, self._store)

    def _sent(self, send: Callable[[Mapping[str, str]], _T], headers: Mapping[str, str]) -> _T:
        try:
            return send(headers)
        except Fault as fault:
            raise self._client.error(fault) from fault


def _refused(fault: Fault) -> bool:
    """Whether the condition is why it was not done."""
    return (
        fault.status in (412, 501)
        or fault.code in ("PreconditionFailed", "ConditionalRequestConflict")
        # If-Match where there is nothing.
        or (fault.status == 404 and fault.code == "NoSuchKey")
    )


def _answered(fault: Fault) -> bool:
    """Whether the store itself said so, not a gateway that lost its answer. Ceph answers
    500 to the loser of a race: what is there then is another's, even if its bytes are the same."""
    return fault.code is not None or fault.status not in (502, 504)


def conflict_of(
    ref: ObjectRef, expected: Expected, found: ObjectVersion | None, store: str
) -> AlreadyExists | WriteConflict:
    """The error of a condition that does not hold, with what is there instead."""
    conflict: AlreadyExists | WriteConflict
    if expected is There.NOTHING:
        conflict = AlreadyExists(f"{ref.key} exists already", store=store)
    else:
        conflict = WriteConflict(
            f"{ref.key} was replaced or deleted since it was read",
            store=store,
            hint="read it again",
        )
    conflict.found = found
    return conflict
