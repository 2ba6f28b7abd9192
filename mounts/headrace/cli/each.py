"""The same for each path of a command: an error of one ends only that one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from headrace.cli.failures import sentence, shared_code
from headrace.cli.streams import complain
from headrace_namespace.errors import HeadraceError
from headrace_namespace.path import NamespacePath


def each(paths: Sequence[str], do: Callable[[NamespacePath], object]) -> int:
    """Do it with each path; errors are named on stderr as they come. The exit code: the one that
    all errors share, else 1. Raises the error where there is but one path, and InvalidPath before
    anything is done."""
    parsed = [NamespacePath.parse(path) for path in paths]
    if len(parsed) == 1:
        do(parsed[0])
        return shared_code(())
    errors: list[HeadraceError] = []
    for path in parsed:
        try:
            do(path)
        except HeadraceError as error:
            # What was printed of those before stands above it where both go to one terminal.
            sys.stdout.flush()
            complain(sentence(path.text, error))
            errors.append(error)
    return shared_code(errors)
