"""The entry point: light, so that Ctrl-C is answered while the program is still being loaded."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line: returns its exit code, or raises SystemExit with it."""
    try:
        from headrace.cli.program import run

        return run(arguments)
    except KeyboardInterrupt:
        sys.stderr.write("headrace: interrupted\n")
        return 130  # exit_codes.INTERRUPTED, which may not be loaded yet
