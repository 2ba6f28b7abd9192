"""Builds the sealed SSD tier: the one way in to its rooms."""

from __future__ import annotations

import errno
import logging
import os
import sys
from contextlib import suppress
from pathlib import Path

from headrace_cache.tiers.off_tier import OffTier
from headrace_cache.tiers.protocol import PageTier
from headrace_cache.tiers.ssd.folder import FolderUnusable
from headrace_cache.tiers.ssd.key_file import load_or_make_key
from headrace_cache.tiers.ssd.key_swap import KeyFile
from headrace_cache.tiers.ssd.limits import limits_of
from headrace_cache.tiers.ssd.tier import SsdTier
from headrace_namespace.clock import Clock, SystemClock
from headrace_namespace.metadata.lmdb_env import IndexFault

_log = logging.getLogger(__name__)


def open_ssd_tier(
    *,
    folder: Path,
    limit_bytes: int,
    key_file: Path,
    page_bytes: int,
    clock: Clock | None = None,
) -> PageTier:
    """The sealed SSD tier in `folder`, which processes may share.

    Never takes more than `limit_bytes` of disk, index included. Raises ConfigError where the limit
    is below what can work, or the key file lies in the folder, may be read by others or is no key.
    Where the folder or the key file cannot be used at all, warns once and returns a tier that is
    off.
    """
    limits = limits_of(limit_bytes, page_bytes)
    if sys.platform == "win32":
        _log.warning(
            "the SSD tier is off: it needs file locks that this system does not have; "
            "set [cache] ssd = 0"
        )
        return OffTier()
    try:
        load_or_make_key(key_file, folder)
        return SsdTier(folder, limits, KeyFile(key_file, folder), clock or SystemClock())
    except (FolderUnusable, IndexFault, OSError) as error:
        full = isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)
        then = "raise ulimit -n" if full else "set [cache] folder and key_file to writable ones"
        _log.warning("the SSD tier in %s is off: %s; %s, or ssd = 0", folder, error, then)
        return OffTier(f"{error}" if _holds_something(folder) else None)


def _holds_something(folder: Path) -> bool:
    """Whether pages may lie in the folder that this user's cache left there. What lies in a folder
    of another user, who lets nobody look, is his to purge."""
    try:
        return (folder / "index" / "data.mdb").exists()
    except OSError:
        with suppress(OSError):
            return folder.stat().st_uid == os.geteuid()
        return False
