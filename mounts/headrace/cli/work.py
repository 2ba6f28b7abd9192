"""What a command that changes many objects has done, and how it tells."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager

from headrace.cli.exit_codes import DONE
from headrace.cli.failures import Failure, as_facts, tell_failures
from headrace.cli.printing import print_json
from headrace.cli.progress import Note, progress
from headrace_namespace.clock import SystemClock
from headrace_namespace.path import NamespacePath
from headrace_namespace.units import format_bytes

#: What went wrong is named this often; past it, it is only counted.
MOST_NAMED = 10_000


class Tally:
    """Objects and bytes done, and what failed."""

    def __init__(self) -> None:
        self.objects = 0
        self.bytes = 0
        self.failed: list[Failure] = []
        self.failures = 0
        self.code = DONE

    def done(self, count: int, objects: int = 1) -> None:
        """Count what was done."""
        self.objects += objects
        self.bytes += count

    def fail(self, path: NamespacePath, error: Exception) -> None:
        """Note what could not be done."""
        self.failures += 1
        if len(self.failed) < MOST_NAMED:
            self.failed.append((path, error))


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
            f"{tally.objects:,} objects, {format_bytes(tally.bytes)} {word} in {seconds:.1f} s\n"
        )
    tally.code = tell_failures(tally.failed, tally.failures)
