"""headrace: one tree over many stores, a cache beside the compute.

    import headrace
    with headrace.open("/lake/a.parquet") as file: ...

The errors that headrace raises are the usual ones of Python, each also a `HeadraceError`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any, Unpack

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
    from headrace_mounts.remote_settings import RemoteOptions
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
    "RemoteOptions",
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
    if name == "RemoteOptions":
        from headrace_mounts.remote_settings import RemoteOptions

        return RemoteOptions
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# The imports inside keep `import headrace` light for those who only want the errors.
def connect(
    config: str | os.PathLike[str] | Mapping[str, object] | None = None,
    *,
    node: str | None = None,
    **remote: Unpack[RemoteOptions],
) -> CacheService:
    """The tree and its cache by a configuration: a file, a dict, or the one found by itself.

    With `node`, `host:port`, the tree of that node of another host, of which nothing is asked yet;
    how to reach it, `token`, `token_file`, `token_env`, `ca`, `certificate`, `key` and `tls` say,
    and a `[[remote]]` of the configuration, where there is one, what they do not.

    Its methods take paths as `NamespacePath.parse("/lake/x")`, and freshness as
    `Freshness.parse("30s")`; of one file it is simpler to ask `headrace.open`.

    One process has one service for each configuration and node, closed when the process ends.
    Raises ConfigError.
    """
    from headrace_mounts.connect import connect_any

    _refuse_unknown("connect", remote)
    return connect_any(config, node, remote)


def open(
    path: str,
    mode: str = "rb",
    *,
    config: str | os.PathLike[str] | Mapping[str, object] | None = None,
    max_age: float | str | None = None,
    if_version: str | None = None,
    node: str | None = None,
    **remote: Unpack[RemoteOptions],
) -> IO[Any]:
    """A file of the tree: `rb` and `r` read, `wb` and `w` write anew, `xb` and `x` only where
    nothing is, `ab` and `a` append; text is UTF-8.

    A file that is read has its version pinned: one open file never mixes two. `max_age` says how
    old may be what is known of it: 0 asks the store, a number of seconds, or "pinned"; by default
    the mount's own freshness. A file that is written is there, whole, when it is closed; an error
    inside its `with` leaves what was there. `if_version` replaces that version and no other
    (WriteConflict). `.version` is the version read, or after closing the one written.

    `headrace://host:port/…`, or `node`, names a file of a node of another host, which the other
    options say how to reach, as in `connect`.

    The usual errors: FileNotFoundError, FileExistsError, IsADirectoryError, PermissionError, ….
    """
    from headrace_mounts.fsspec_fs import HeadraceFileSystem
    from headrace_mounts.node_urls import node_in

    _refuse_unknown("open", remote)
    # fsspec has no types.
    tree: Any = HeadraceFileSystem(
        config=config, node=node_in(path) if node is None else node, **remote
    )
    given: dict[str, Any] = {"max_age": max_age}
    if if_version is not None:
        given["if_version"] = if_version
    file: IO[Any] = tree.open(path, mode, **given)
    return file


def _refuse_unknown(function: str, remote: RemoteOptions) -> None:
    """A misspelt option is told of as Python does, not as one of how to reach a node."""
    from headrace_mounts.remote_settings import REMOTE_OPTIONS

    for name in remote.keys() - REMOTE_OPTIONS:
        raise TypeError(f"{function}() got an unexpected keyword argument {name!r}")
