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

#: What each means, in the words of every help text.
MEANINGS = {
    DONE: "done",
    FAILED: "the operation failed, wholly or in part; standard error says what",
    WRONG_USE: "wrong use, or a fault in the configuration or the policy file",
    REFUSED_BY_POLICY: "refused by the policy",
    NO_SUCH_PATH: "no such path",
    INTERRUPTED: "interrupted",
    PIPE_CLOSED: "the output's reader had seen enough",
}

#: What a command that reads the tree may end with, and one that prints nothing at length.
READING = (DONE, FAILED, WRONG_USE, REFUSED_BY_POLICY, NO_SUCH_PATH, INTERRUPTED, PIPE_CLOSED)
WORKING = READING[:-1]

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
