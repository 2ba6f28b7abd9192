"""The policy in force: the file's, looked at again while the process runs.

A change of the file is in force for every open after the next look. One that raises the epoch takes
the place of what was; one that does not can only make things stricter, for both then hold. A file
that vanished or cannot be read whole denies everything until it is mended.
"""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

from headrace_cache.limits import PolicySource
from headrace_cache.policy import DENY_ALL, UNRESTRICTED, Policy
from headrace_cache.policy_file import parse_policy
from headrace_namespace.clock import Clock
from headrace_namespace.config import read_text
from headrace_namespace.errors import ConfigError

_log = logging.getLogger(__name__)

#: How long a change may go unseen. A look is one stat, about 2 microseconds.
LOOK_SECONDS = 1.0

#: What shows of a file's change: inode, size, mtime and ctime; None where it is not there.
_Looks = tuple[int, int, int, int] | None


class PolicyWatch:
    """Gives the policy in force now. Safe to use from many threads."""

    def __init__(self, source: PolicySource | None, clock: Clock) -> None:
        """Raises ConfigError where the policy is wrong from the start."""
        self._file = source.name if source is not None else None
        self._clock = clock
        self._lock = threading.Lock()
        self._looks = _look(self._file)
        self._next_look = clock.monotonic() + LOOK_SECONDS
        self._good = UNRESTRICTED if source is None else parse_policy(source.text, source.name)
        self._current = self._good

    def current(self) -> Policy:
        """The policy in force; it is never raised about, for what cannot be read denies all."""
        if self._file is None or self._clock.monotonic() < self._next_look:
            return self._current
        with self._lock:
            self._next_look = self._clock.monotonic() + LOOK_SECONDS
            looks = _look(self._file)
            if looks != self._looks:
                self._looks = looks
                self._current = self._read(self._file)
            return self._current

    def _read(self, file: str) -> Policy:
        try:
            policy = parse_policy(read_text(Path(file), "policy file"), file)
        except ConfigError as error:
            _log.error("nothing is served until the policy file is mended: %s", error)
            return DENY_ALL
        self._good = policy if policy.epoch > self._good.epoch else self._good.also(policy)
        return self._good


def _look(file: str | None) -> _Looks:
    if file is None:
        return None
    try:
        shown = os.stat(file)
    except OSError:
        return None
    return shown.st_ino, shown.st_size, shown.st_mtime_ns, shown.st_ctime_ns
