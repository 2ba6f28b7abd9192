"""Refusing every write: a wrapper for a mount that is read only, and the base for a store that
cannot be written at all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from headrace_namespace.backends.protocol import Backend, Expected, Upload
from headrace_namespace.backends.wrapper import WrappedBackend
from headrace_namespace.errors import HeadraceError, ReadOnly
from headrace_namespace.identity import ObjectRef, ObjectVersion


class RefusesWrites(ABC):
    """The write half of `Backend` for a store that has none: each method raises `refusal()`."""

    @abstractmethod
    def refusal(self) -> HeadraceError:
        """Why nothing can be written, as an error of its own for each call."""

    def put(self, ref: ObjectRef, data: memoryview, expected: Expected) -> ObjectVersion:
        """Refused."""
        raise self.refusal()

    def begin_upload(
        self, ref: ObjectRef, expected: Expected, base: ObjectVersion | None = None
    ) -> Upload:
        """Refused."""
        raise self.refusal()

    def copy(self, source: ObjectVersion, ref: ObjectRef, expected: Expected) -> ObjectVersion:
        """Refused."""
        raise self.refusal()

    def rename(self, key: str, to: ObjectRef) -> bool:
        """Refused."""
        raise self.refusal()

    def delete(self, keys: Sequence[str]) -> Mapping[str, HeadraceError]:
        """Refused."""
        raise self.refusal()

    def make_folder(self, key: str) -> None:
        """Refused."""
        raise self.refusal()

    def remove_folder(self, key: str) -> None:
        """Refused."""
        raise self.refusal()


class ReadOnlyBackend(RefusesWrites, WrappedBackend):
    """Passes every read on to `inner`, and refuses every write with ReadOnly, which names the
    mount's path. It belongs outside all other wrappers, so that a refusal costs no turn."""

    def __init__(self, inner: Backend, mount: str) -> None:
        super().__init__(inner)
        self._mount = mount

    def refusal(self) -> ReadOnly:
        """ReadOnly, with the mount's path."""
        return ReadOnly(
            f"{self._mount} is mounted read-only",
            store=self.name,
            hint="remove read_only = true from the mount to write there",
        )
