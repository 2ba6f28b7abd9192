"""A process that kills itself at the k-th thing that it does to the disk.

Only in a forked child: what the tier calls of `os` and of LMDB is replaced for good there.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from headrace_namespace.metadata.lmdb_env import SharedEnvironment

#: What changes the disk, or a lock on it, and may be the last thing that a process does.
CALLS = (
    "open",
    "close",
    "write",
    "pwrite",
    "fsync",
    "truncate",
    "ftruncate",
    "rename",
    "replace",
    "link",
    "unlink",
    "mkdir",
    "posix_fallocate",
)


class CrashPoints:
    """Counts; at the point of this number the process dies by SIGKILL, before the call is made or
    (`after`) as soon as it was."""

    def __init__(self, point: int, *, after: bool) -> None:
        self._left = point
        self._after = after

    def arm(self) -> None:
        for name in CALLS:
            setattr(os, name, self._wrapped(getattr(os, name)))
        fcntl.flock = self._wrapped(fcntl.flock)
        setattr(SharedEnvironment, "write", self._wrapped_write(SharedEnvironment.write))  # noqa: B010

    def _wrapped_write(self, real: Callable[..., Any]) -> Callable[..., Any]:
        """The commit is a point of its own: before it, all that was written within is lost."""

        @contextmanager
        def write(environment: SharedEnvironment) -> Generator[Any]:
            with real(environment) as txn:
                yield txn
                self._pass(before=True)
            self._pass(before=False)

        return write

    def _wrapped(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*words: Any, **named: Any) -> Any:
            self._pass(before=True)
            answer = call(*words, **named)
            self._pass(before=False)
            return answer

        return wrapped

    def _pass(self, *, before: bool) -> None:
        if before == self._after:
            return
        self._left -= 1
        if self._left < 0:
            os.kill(os.getpid(), 9)
