"""What every store held, and when: the plain dict beside the real thing, with its past."""

from __future__ import annotations

from dataclasses import dataclass

from headrace_namespace.identity import ObjectRef, ObjectVersion
from tests.fakes.clock import ManualClock


@dataclass(slots=True)
class Era:
    """How long a version was the one there: counted in changes, and by the monotonic clock."""

    version: ObjectVersion
    begun: int
    ended: int | None = None
    ended_at: float | None = None


class Truth:
    """Told of every change of every store, whoever made it."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        #: Counts the changes of all stores.
        self.changes = 0
        self.bytes_of: dict[ObjectVersion, bytes] = {}
        self._eras: dict[ObjectRef, list[Era]] = {}

    def changed(self, ref: ObjectRef, version: ObjectVersion | None, data: bytes = b"") -> None:
        """The object is this version now; None: it is gone."""
        self.changes += 1
        eras = self._eras.setdefault(ref, [])
        if eras and eras[-1].ended is None:
            eras[-1].ended, eras[-1].ended_at = self.changes, self._clock.monotonic()
        if version is not None:
            self.bytes_of[version] = data
            eras.append(Era(version, self.changes))

    def now(self, ref: ObjectRef) -> ObjectVersion | None:
        """The version that is there."""
        eras = self._eras.get(ref)
        return eras[-1].version if eras and eras[-1].ended is None else None

    def eras(self, ref: ObjectRef) -> list[Era]:
        """All versions that were ever there, in order."""
        return self._eras.get(ref, [])

    def there_since(self, ref: ObjectRef, change: int) -> list[Era]:
        """The versions that were there at any time after so many changes."""
        return [era for era in self.eras(ref) if era.ended is None or era.ended > change]

    def was_absent(self, ref: ObjectRef, since: int) -> bool:
        """Whether nothing was there for a while after so many changes."""
        eras = self.eras(ref)
        starts = [era.begun for era in eras[1:]] + [None]
        return any(
            era.ended is not None and era.ended > since and era.ended != start
            for era, start in zip(eras, starts, strict=True)
        )

    def objects(self, store: str) -> dict[str, ObjectVersion]:
        """What a store holds now, by key."""
        return {
            ref.key: eras[-1].version
            for ref, eras in self._eras.items()
            if ref.store == store and eras and eras[-1].ended is None
        }
