"""The key-encryption key: 32 random bytes in a file of its own, outside the cache folder.

Who has both the folder and this file can open every page; who has the folder alone has noise. A
purge replaces the key (`key_swap.py`), so each folder needs a key file of its own.
"""

from __future__ import annotations

import os
import secrets
import stat
import sys
from pathlib import Path

from headrace_namespace.errors import ConfigError

if sys.platform != "win32":
    import fcntl

#: AES-256 keys have 256 bits; the file holds these bytes and nothing else.
KEY_BYTES = 32


class KeyLost(ConfigError):
    """The key file is there, and holds nothing."""


def load_or_make_key(key_file: Path, folder: Path) -> bytes:
    """The key in `key_file`; made where the file is missing, whole or not at all, and where it was
    lost: empty or zeros, as a power cut or a bad disk leaves a file.

    Processes that start at once agree on one key. Raises ConfigError where the file lies inside the
    cache folder `folder`, others may read it, or it is no key; OSError where it cannot be read or
    made.
    """
    if Path(os.path.realpath(key_file)).is_relative_to(os.path.realpath(folder)):
        raise ConfigError(
            f"the key file {key_file} lies inside the cache folder {folder}, "
            "so that a copy of the folder would carry its own key",
            hint="name a key file outside the folder",
        )
    try:
        return read_key(key_file)
    except FileNotFoundError:
        _make(key_file)
    except KeyLost:
        _make_again(key_file)
    return read_key(key_file)


def read_key(key_file: Path) -> bytes:
    """The key in `key_file`. Raises KeyLost, ConfigError and OSError."""
    # Opening a pipe in its place would wait for ever.
    descriptor = os.open(key_file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"the key file {key_file} is not a regular file")
        if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ConfigError(
                f"the key file {key_file} may be used by others than its owner "
                f"(mode {stat.S_IMODE(status.st_mode):04o})",
                hint=f"run: chmod 600 {key_file}",
            )
        # One byte more than a key shows a file that is too long.
        key = os.read(descriptor, KEY_BYTES + 1)
    finally:
        os.close(descriptor)
    if _is_lost(key):
        raise KeyLost(f"the key in the key file {key_file} is lost")
    if len(key) != KEY_BYTES:
        raise ConfigError(
            f"the key file {key_file} is not a key of headrace: it must hold {KEY_BYTES} bytes",
            hint="name another file, or delete this one to have a new key made",
        )
    return key


def _make(key_file: Path) -> None:
    """Make the file under a name of our own first, then link it: the first link wins, and no reader
    ever sees half a key."""
    key_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = key_file.with_name(f".{key_file.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            if os.write(descriptor, secrets.token_bytes(KEY_BYTES)) != KEY_BYTES:
                raise OSError(f"the key file {key_file} could not be written whole")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        try:
            os.link(draft, key_file)
        except FileExistsError:
            return  # another process was faster, and its key is ours
        _sync_folder(key_file.parent)
    finally:
        os.unlink(draft)


def _make_again(key_file: Path) -> None:
    """Fill a file whose key was lost; one process at a time, the first one's key is all others'."""
    descriptor = os.open(key_file, os.O_RDWR | os.O_CLOEXEC)
    try:
        if sys.platform != "win32":
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # held for one write
        if _is_lost(os.pread(descriptor, KEY_BYTES + 1, 0)):
            if os.pwrite(descriptor, secrets.token_bytes(KEY_BYTES), 0) != KEY_BYTES:
                raise OSError(f"the key file {key_file} could not be written whole")
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_lost(key: bytes) -> bool:
    """Zeros are no key: whoever has the folder could guess them."""
    return len(key) <= KEY_BYTES and not any(key)


def _sync_folder(folder: Path) -> None:
    """Let the name survive a power cut; a lost key means an empty cache, so this is worth it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
