"""Stands for a store that this process cannot open: it answers everything with the reason.

A mount made at run time by one process may be beyond another, which lacks a package or a variable.
That must not take the other mounts down, nor hide that the mount is there: the tree shows it, and
policy still knows by its URL which objects it shares with other mounts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NoReturn

from headrace_namespace.backends.protocol import (
    Backend,
    Expected,
    Folder,
    ListPage,
    Upload,
)
from headrace_namespace.errors import ConfigError, HeadraceError
from headrace_namespace.identity import ObjectRef, ObjectVersion


class UnusableBackend:
    """Raises ConfigError at every request. `places` names objects where the URL alone can tell."""

    def __init__(self, name: str, reason: str, places: Backend | None) -> None:
        self._name = name
        self._reason = reason
        self._places = places

    @property
    def name(self) -> str:
        """The mount."""
        return self._name

    @property
    def stat_is_cheap(self) -> bool:
        """So that its parent's listing does not ask it."""
        return False

    @property
    def space(self) -> str:
        """The store's, where the URL tells; else one of its own."""
        return self._places.space if self._places is not None else f"unusable:{self._name}"

    def ref(self, key: str) -> ObjectRef:
        """The store's, where the URL tells."""
        if self._places is not None:
            return self._places.ref(key)
        return ObjectRef(f"unusable:{self._name}", key)

    def trail(self, key: str) -> tuple[ObjectRef, ...]:
        """The store's, where the URL tells."""
        return self._places.trail(key) if self._places is not None else (self.ref(key),)

    def stat(self, key: str) -> ObjectVersion | Folder | None:
        """Raises ConfigError."""
        self._refuse()

    def shows(self, key: str, version: ObjectVersion) -> bool:
        """False."""
        return False

    def shown_by(self, key: str) -> None:
        """None: it is no file of this machine."""

    def list_page(self, ref: ObjectRef, token: str | None) -> ListPage:
        """Raises ConfigError."""
        self._refuse()

    def read_into(self, version: ObjectVersion, start: int, target: memoryview) -> None:
        """Raises ConfigError."""
        self._refuse()

    def put(self, ref: ObjectRef, data: memoryview, expected: Expected) -> ObjectVersion:
        """Raises ConfigError."""
        self._refuse()

    def begin_upload(
        self, ref: ObjectRef, expected: Expected, base: ObjectVersion | None = None
    ) -> Upload:
        """Raises ConfigError."""
        self._refuse()

    def copy(self, source: ObjectVersion, ref: ObjectRef, expected: Expected) -> ObjectVersion:
        """Raises ConfigError."""
        self._refuse()

    def rename(self, key: str, to: ObjectRef) -> bool:
        """Raises ConfigError."""
        self._refuse()

    def delete(self, keys: Sequence[str]) -> Mapping[str, HeadraceError]:
        """Raises ConfigError."""
        self._refuse()

    def make_folder(self, key: str) -> None:
        """Raises ConfigError."""
        self._refuse()

    def remove_folder(self, key: str) -> None:
        """Raises ConfigError."""
        self._refuse()

    def close(self) -> None:
        """Let go of what names the places."""
        if self._places is not None:
            self._places.close()

    def _refuse(self) -> NoReturn:
        raise ConfigError(
            f"{self._name} cannot be used by this process: {self._reason}",
            hint="mend that and start it again, or unmount it",
        )
