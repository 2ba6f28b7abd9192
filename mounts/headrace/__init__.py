"""headrace: one tree over many stores, a cache beside the compute.

    import headrace
    with headrace.open("/lake/a.parquet") as file: ...

The errors that headrace raises are the usual ones of Python, each also a `HeadraceError`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any

from headrace_namespace.errors import (
    AccessRefused,
    AlreadyExists,
    ClockSkewed,
    ConfigError,
    CredentialsRefused,
    FolderNotEmpty,
    HeadraceError,
    InvalidPath,
    IsFolder,
    NameTooLong,
    NotFolder,
    NotFound,
    PolicyDenied,
    ReadOnly,
    StoreAnswerWrong,
    StoreFull,
    StoreMissing,
    StoreTimeout,
    StoreUnavailable,
    TooManyOpen,
    VersionGone,
    WriteConflict,
)

if TYPE_CHECKING:
    from headrace_cache.service import CacheService
    from headrace_namespace.freshness import Freshness
    from headrace_namespace.path import NamespacePath

    __version__: str

__all__ = [
    "AccessRefused",
    "AlreadyExists",
    "ClockSkewed",
    "ConfigError",
    "CredentialsRefused",
    "FolderNotEmpty",
    "Freshness",
    "HeadraceError",
    "InvalidPath",
    "IsFolder",
    "NameTooLong",
    "NamespacePath",
    "NotFolder",
    "NotFound",
    "PolicyDenied",
    "ReadOnly",
    "StoreAnswerWrong",
    "StoreFull",
    "StoreMissing",
    "StoreTimeout",
    "StoreUnavailable",
    "TooManyOpen",
    "VersionGone",
    "WriteConflict",
    "__version__",
    "connect",
    "open",
]


def __getattr__(name: str) -> object:
    # What the errors alone do not need is fetched when wanted, so that this import stays light.
    if name == "__version__":
        from importlib.metadata import version

        return version("headrace")
    if name == "NamespacePath":
        from headrace_namespace.path import NamespacePath

        return NamespacePath
    if name == "Freshness":
        from headrace_namespace.freshness import Freshness

        return Freshness
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# The imports inside keep `import headrace` light for those who only want the errors.
def connect(config: str | os.PathLike[str] | Mapping[str, object] | None = None) -> CacheService:
    """The tree and its cache by a configuration: a file, a dict, or the one found by itself.

    Its methods take paths as `NamespacePath.parse("/lake/x")`, and freshness as
    `Freshness.parse("30s")`; of one file it is simpler to ask `headrace.open`.

    One process has one service for each configuration, closed when the process ends. Raises
    ConfigError.
    """
    from headrace_mounts.connect import connect as connected

    return connected(config)


def open(
    path: str,
    mode: str = "rb",
    *,
    config: str | os.PathLike[str] | Mapping[str, object] | None = None,
    max_age: float | str | None = None,
    if_version: str | None = None,
) -> IO[Any]:
    """A file of the tree: `rb` and `r` read, `wb` and `w` write anew, `xb` and `x` only where
    nothing is, `ab` and `a` append; text is UTF-8.

    A file that is read has its version pinned: one open file never mixes two. `max_age` says how
    old may be what is known of it: 0 asks the store, a number of seconds, or "pinned"; by default
    the mount's own freshness. A file that is written is there, whole, when it is closed; an error
    inside its `with` leaves what was there. `if_version` replaces that version and no other
    (WriteConflict). `.version` is the version read, or after closing the one written.

    The usual errors: FileNotFoundError, FileExistsError, IsADirectoryError, PermissionError, ….
    """
    from headrace_mounts.fsspec_fs import HeadraceFileSystem

    # fsspec has no types.
    tree: Any = HeadraceFileSystem(config=config)
    given: dict[str, Any] = {"max_age": max_age}
    if if_version is not None:
        given["if_version"] = if_version
    file: IO[Any] = tree.open(path, mode, **given)
    return file
