"""What went wrong with single objects of a long command: told on stderr, summed to one code."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from headrace.cli.call import Call
from headrace.cli.exit_codes import DONE, FAILED, exit_code
from headrace.cli.printing import escaped
from headrace.cli.streams import complain
from headrace_namespace.errors import HeadraceError
from headrace_namespace.naming import at_node, naming
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
    said = str(seen(error)) or type(error).__name__
    if not isinstance(error, HeadraceError | OSError):
        said = f"this is a fault in headrace: {type(error).__name__}: {error}"
    return escaped(naming(path, said))


def seen(error: Exception) -> Exception:
    """The same error, its path of the tree named as the user knows it: with the node that the
    command asks by `--node`."""
    context = click.get_current_context(silent=True)
    call = context.find_object(Call) if context is not None else None
    if call is not None and isinstance(error, HeadraceError):
        return at_node(error, call.node)
    return error


def as_facts(failed: Iterable[Failure]) -> list[dict[str, str]]:
    """The failures for programs: `path`, `error` (its kind) and `message`."""
    return [
        {"path": str(path), "error": type(error).__name__, "message": str(seen(error))}
        for path, error in failed
    ]
