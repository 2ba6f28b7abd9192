"""For how long an answer of a store stands without asking again: what another process may rely on
that opens the same object once more."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Standing:
    """A version may be opened again for so many seconds from when this was told: as often as one
    likes, or `once`; where there is a `file` of this machine, as long as its `os.lstat` shows the
    version's tag."""

    seconds: float
    file: str | None = None
    once: bool = False
