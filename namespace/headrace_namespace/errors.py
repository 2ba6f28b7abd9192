"""Every error that headrace raises, as one family.

    HeadraceError
    |- ConfigError          (ValueError)          a configuration or policy file is wrong; fix it
    |- InvalidPath          (ValueError)          no object can have this name; fix the path
    `- an OSError, so that `except OSError` and `errno` work as everywhere in Python:
       |- NotFound          (FileNotFoundError)   nothing has this path
       |  `- StoreMissing                         the bucket or folder behind a mount is not there
       |     `- MountEmpty                        the bucket is there, and nothing below the prefix
       |- IsFolder          (IsADirectoryError)   an object was asked for
       |- NotFolder         (NotADirectoryError)  a folder was asked for
       |- NameTooLong       (ENAMETOOLONG)        the store cannot hold such a name
       |- ReadOnly          (EROFS)               this path cannot be written
       |- AlreadyExists     (FileExistsError)     something is there, where nothing was to be
       |- FolderNotEmpty    (ENOTEMPTY)           a folder with something in it cannot be removed
       |- WriteConflict     (ESTALE)              somebody else replaced what was to be replaced;
       |                                          read it again
       |- StoreFull         (ENOSPC)              the store has no room for it
       |- TooManyOpen       (EMFILE)              so many objects are being written already
       |- AccessRefused     (PermissionError)     the store knows us and says no
       |  |- CredentialsRefused                   the store does not accept who we say we are
       |  `- ClockSkewed                          this machine's clock is too far off to sign
       |- PolicyDenied      (PermissionError)     headrace's own policy says no
       |- VersionGone       (ESTALE)              the version pinned at open is no longer to be had;
       |                                          open again
       |- StoreAnswerWrong  (EIO)                 the store sent what cannot be trusted
       `- StoreUnavailable  (ConnectionError)     the store could not be reached; try again
          `- StoreTimeout   (TimeoutError)        it did not answer in time

Each carries ``path`` (in the tree), ``store`` (which store, never a credential) and ``hint`` (what
to do). ``str(error)`` is a sentence that ends with the hint; of a node of another host it names the
path by its URL (`naming.py`).
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from headrace_namespace.identity import ObjectVersion


class HeadraceError(Exception):
    """Something that headrace could not do; `path`, `store` and `hint` say where and what next."""

    errno_value: int | None = None
    #: Whether the same request may succeed when it is simply made again.
    retriable: bool = False
    #: Whether the store itself answered that the request failed: nothing was lost on the way.
    answered: bool = False

    def __init__(
        self,
        message: str,
        *,
        path: str | None = None,
        store: str | None = None,
        hint: str | None = None,
    ) -> None:
        self.message = message
        self.path = path
        self.store = store
        self.hint = hint
        self._tell_python()

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process borders (Dask, Spark); OSError's own way would lose fields.
        return (_rebuild, (type(self), self.message, self.path, self.store, self.hint))

    def at(self, *, path: str | None = None, store: str | None = None) -> Self:
        """The same error with what a higher room knows filled in where it was unknown."""
        if self.path is None and path is not None:
            self.path = path
            self._tell_python()
        if self.store is None:
            self.store = store
        return self

    def saying(self, message: str) -> Self:
        """The same error, by another sentence."""
        self.message = message
        self._tell_python()
        return self

    def _tell_python(self) -> None:
        """Set `errno`, `strerror` and `filename` where this is an OSError."""
        if isinstance(self, OSError):
            OSError.__init__(self, self.errno_value, self.message, self.path)
        else:
            Exception.__init__(self, self.message)


def _rebuild(
    kind: type[HeadraceError],
    message: str,
    path: str | None,
    store: str | None,
    hint: str | None,
) -> HeadraceError:
    return kind(message, path=path, store=store, hint=hint)


class ConfigError(HeadraceError, ValueError):
    """A configuration or policy file is wrong; the message names file, line and key."""


class InvalidPath(HeadraceError, ValueError):
    """No object can have this name in the tree."""


class NotFound(HeadraceError, FileNotFoundError):
    """Nothing has this path."""

    errno_value = errno.ENOENT


class StoreMissing(NotFound):
    """The bucket or folder that a mount points to does not exist."""


class MountEmpty(StoreMissing):
    """The bucket is there, but nothing lies below the mount's prefix yet; a write would make it."""


class IsFolder(HeadraceError, IsADirectoryError):
    """The path is a folder where an object was asked for."""

    errno_value = errno.EISDIR


class NotFolder(HeadraceError, NotADirectoryError):
    """The path is an object where a folder was asked for."""

    errno_value = errno.ENOTDIR


class NameTooLong(HeadraceError, OSError):
    """The store cannot hold a name of this length."""

    errno_value = errno.ENAMETOOLONG


class ReadOnly(HeadraceError, OSError):
    """The path cannot be written through headrace."""

    errno_value = errno.EROFS


class AlreadyExists(HeadraceError, FileExistsError):
    """Something has this path, and the write was to be made only where nothing has."""

    errno_value = errno.EEXIST
    #: The object that the store showed there; it stays behind at a process border.
    found: ObjectVersion | None = None


class FolderNotEmpty(HeadraceError, OSError):
    """The folder still holds something, so it is not removed."""

    errno_value = errno.ENOTEMPTY


class WriteConflict(HeadraceError, OSError):
    """The object is no longer the version that the write was to replace; nothing was written."""

    errno_value = errno.ESTALE
    #: The object that the store showed there instead; it stays behind at a process border.
    found: ObjectVersion | None = None


class StoreFull(HeadraceError, OSError):
    """The store has no room left, or the object would be larger than it can hold."""

    errno_value = errno.ENOSPC


class TooManyOpen(HeadraceError, OSError):
    """This process writes as many objects at once as it may."""

    errno_value = errno.EMFILE


class AccessRefused(HeadraceError, PermissionError):
    """The store refuses this identity the access."""

    errno_value = errno.EACCES


class CredentialsRefused(AccessRefused):
    """The store does not accept the credentials: unknown key, wrong secret, or expired token."""


class ClockSkewed(AccessRefused):
    """The store refuses signatures because this machine's clock is too far from its own."""


class PolicyDenied(HeadraceError, PermissionError):
    """The policy forbids it, or demands a guarantee that this process cannot give."""

    errno_value = errno.EACCES


class VersionGone(HeadraceError, OSError):
    """The version pinned at open was replaced or deleted at the source before it was all read."""

    errno_value = errno.ESTALE


class StoreAnswerWrong(HeadraceError, OSError):
    """The store's answer breaks its protocol; its bytes are not trusted and not kept."""

    errno_value = errno.EIO


class StoreUnavailable(HeadraceError, ConnectionError):
    """The store could not be reached, or failed on its own side; trying again can help."""

    errno_value = errno.EHOSTUNREACH
    retriable = True


class StoreTimeout(StoreUnavailable, TimeoutError):
    """The store did not answer within the time allowed."""

    errno_value = errno.ETIMEDOUT
