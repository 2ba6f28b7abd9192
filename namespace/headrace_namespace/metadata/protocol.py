"""What the namespace asks of a place that remembers answers of stores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from headrace_namespace.identity import ObjectRef, ObjectVersion


@dataclass(frozen=True, slots=True)
class Observation:
    """A store's answer about one object, and when it was asked (seconds of the monotonic clock)."""

    version: ObjectVersion
    asked_at: float


class MetadataStore(Protocol):
    """Answers remembered by object. It may forget any of them; it never makes one up."""

    def get(self, ref: ObjectRef) -> Observation | None:
        """The latest answer about the object, or None."""
        ...

    def put(self, observation: Observation) -> None:
        """Remember an answer in place of an earlier one."""
        ...

    def forget(self, ref: ObjectRef) -> None:
        """Forget the object: the store said that it is gone."""
        ...

    def forget_below(self, ref: ObjectRef) -> None:
        """Forget all objects of the folder `ref`."""
        ...
