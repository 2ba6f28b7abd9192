"""What went wrong with single objects of a long command: told on stderr, summed to one code."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from headrace.cli.exit_codes import DONE, FAILED, exit_code
from headrace.cli.printing import escaped
from headrace.cli.streams import complain
from headrace_namespace.errors import HeadraceError
from headrace_namespace.path import NamespacePath

#: Named on stderr at most this often, so that a store that is down does not fill a terminal.
MOST_TOLD = 100

#: A path of the tree, or of this machine where its own file is at fault; and why.
Failure = tuple[NamespacePath | Path, Exception]


def tell_failures(failed: Sequence[Failure], count: int | None = None) -> int:
    """Name each on stderr; the exit code: the one that all share, else that of a failure."""
    for path, error in failed[:MOST_TOLD]:
        complain(sentence(str(path), error))
    more = (len(failed) if count is None else count) - min(len(failed), MOST_TOLD)
    if more > 0:
        complain(f"and {more} more")
    return shared_code(error for _, error in failed)


def shared_code(errors: Iterable[Exception]) -> int:
    """0 where there is no error; the code that all errors give, where they agree; else 1."""
    codes = {exit_code(error) for error in errors}
    if not codes:
        return DONE
    return codes.pop() if len(codes) == 1 else FAILED


def sentence(path: str, error: Exception) -> str:
    """What went wrong, on one line that names the path."""
    said = str(error) or type(error).__name__
    if not isinstance(error, HeadraceError | OSError):
        said = f"this is a fault in headrace: {type(error).__name__}: {error}"
    return escaped(said if _names(said, path) else f"{path}: {said}")


def _names(said: str, path: str) -> bool:
    """Whether the sentence names this path itself: not as the end of a store's own path, which
    says nothing to who knows only the tree, nor as the beginning of another."""
    whole = rf"(?<![^\s'\"(]){re.escape(path)}(?=$|[\s,;:)'\"]|\.(?:\s|$))"
    return re.search(whole, said) is not None


def as_facts(failed: Iterable[Failure]) -> list[dict[str, str]]:
    """The failures for programs: `path`, `error` (its kind) and `message`."""
    return [
        {"path": str(path), "error": type(error).__name__, "message": str(error)}
        for path, error in failed
    ]
