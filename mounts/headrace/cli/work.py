"""What a command that changes many objects has done, and how it tells."""

from __future__ import annotations

import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from headrace.cli.exit_codes import DONE
from headrace.cli.failures import Failure, as_facts, tell_failures
from headrace.cli.printing import counted, print_json
from headrace.cli.progress import Note, progress
from headrace_namespace.clock import SystemClock
from headrace_namespace.path import NamespacePath
from headrace_namespace.units import format_bytes

#: What went wrong is named this often; past it, it is only counted.
MOST_NAMED = 10_000


class Tally:
    """Objects and bytes done, and what failed. Safe to use from many threads."""

    def __init__(self) -> None:
        self.objects = 0
        self.bytes = 0
        self.failed: list[Failure] = []
        self.failures = 0
        self.code = DONE
        self._lock = threading.Lock()
        self._under_way = 0

    def done(self, count: int, objects: int = 1) -> None:
        """Count what was done."""
        with self._lock:
            self.objects += objects
            self.bytes += count

    def fail(self, path: NamespacePath | Path, error: Exception) -> None:
        """Note what could not be done."""
        with self._lock:
            self.failures += 1
            if len(self.failed) < MOST_NAMED:
                self.failed.append((path, error))

    def moving(self, count: int) -> int:
        """Add to the bytes of objects that are not whole yet (take off what then is, or is given
        up); bytes in all, for a progress bar."""
        with self._lock:
            self._under_way += count
            return self.bytes + self._under_way


@contextmanager
def working(word: str, as_json: bool) -> Generator[tuple[Tally, Note]]:
    """A tally and its progress bar; told when the block ends, on stdout, failures on stderr."""
    clock, tally = SystemClock(), Tally()
    start = clock.monotonic()
    with progress(word) as note:
        yield tally, note
    seconds = clock.monotonic() - start
    if as_json:
        print_json(
            {
                "objects": tally.objects,
                "bytes": tally.bytes,
                "seconds": seconds,
                "failed": as_facts(tally.failed),
            }
        )
    elif tally.objects > 1 or sys.stdout.isatty():
        sys.stdout.write(
            f"{counted(tally.objects, 'object')}, {format_bytes(tally.bytes)} {word} "
            f"in {seconds:.1f} s\n"
        )
    tally.code = tell_failures(tally.failed, tally.failures)
