"""The change of the key file from one key to the next, which a crash at any step leaves whole.

    1. the next key is written to a file beside the key file (`.next`), and synced
    2. the index is sealed under the next key, and synced
    3. the key file's bytes are overwritten in place with the next key, and synced
    4. the file beside it is overwritten with zeros, and removed

In place, because a rename would leave the old key's block on the disk. Which of the two files fits
is told by the fingerprint in the index: up to step 2 the key file, from then on the one beside it.
What copies the file system itself keeps (copy on write, snapshots, worn flash blocks) is out of our
reach: a key file belongs on a plain file system.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from headrace_cache.tiers.ssd.key_file import KEY_BYTES, load_or_make_key, read_key
from headrace_namespace.errors import ConfigError


class KeyFile:
    """The key file of one cache folder. Whoever changes it holds the folder's opening lock."""

    def __init__(self, path: Path, folder: Path) -> None:
        self.path = path
        self._folder = folder
        self._next = path.with_name(path.name + ".next")

    def load_or_make(self) -> bytes:
        """See `load_or_make_key`."""
        return load_or_make_key(self.path, self._folder)

    def candidates(self) -> list[bytes]:
        """The keys that are there now: the key file's, and the next one's."""
        found: list[bytes] = []
        with suppress(OSError, ConfigError):
            found.append(read_key(self.path))
        with suppress(OSError):
            found.append(self._next.read_bytes())
        return [key for key in found if len(key) == KEY_BYTES]

    def require_writable(self) -> None:
        """Raise OSError where the key file could not be overwritten."""
        os.close(os.open(self.path, os.O_RDWR | os.O_CLOEXEC))

    def write_next(self, key: bytes) -> None:
        """Step 1. Raises OSError."""
        self.wipe_next()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        _write(os.open(self._next, flags, 0o600), key)
        self._sync_folder()

    def overwrite(self, key: bytes) -> None:
        """Step 3. Raises OSError."""
        _write(os.open(self.path, os.O_WRONLY | os.O_CLOEXEC), key)

    def wipe_next(self) -> None:
        """Step 4; nothing where there is no such file. Raises OSError."""
        try:
            descriptor = os.open(self._next, os.O_WRONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        # Only what was written: on a full disk the file may be empty, and must not have to grow.
        _write(descriptor, bytes(os.fstat(descriptor).st_size))
        os.unlink(self._next)
        self._sync_folder()

    def has_next(self) -> bool:
        """Whether the file of step 1 is there."""
        return self._next.exists()

    def _sync_folder(self) -> None:
        descriptor = os.open(self.path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _write(descriptor: int, key: bytes) -> None:
    """Put the key at the file's start, on the disk, and close the file."""
    try:
        if os.pwrite(descriptor, key, 0) != len(key):
            raise OSError("the key file could not be written whole")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
