"""The exit codes that scripts rely on."""

from __future__ import annotations

from headrace_namespace.errors import (
    ConfigError,
    HeadraceError,
    InvalidPath,
    NotFound,
    PolicyDenied,
)

DONE = 0
FAILED = 1
WRONG_USE = 2
REFUSED_BY_POLICY = 3
NO_SUCH_PATH = 4
#: 128 and the number of SIGINT, as shells say it.
INTERRUPTED = 130
#: 128 and the number of SIGPIPE: whoever read our output has seen enough (`headrace cat … | head`).
PIPE_CLOSED = 141

_CODES: tuple[tuple[type[HeadraceError], int], ...] = (
    (PolicyDenied, REFUSED_BY_POLICY),
    (NotFound, NO_SUCH_PATH),
    (ConfigError, WRONG_USE),
    (InvalidPath, WRONG_USE),
)


def exit_code(error: BaseException) -> int:
    """The code by which the command ends after this error."""
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    return FAILED
