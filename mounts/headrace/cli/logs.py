"""What the program says of itself on standard error: quiet by default, as text or as JSON lines.

Only headrace's own rooms are heard, whatever the level: a store's client logs the names of objects
(URLs), and the policy may keep those in memory. Our own rooms log no name that it restricts and no
data; of an error only its kind is shown, for its sentence may hold a path.
"""

from __future__ import annotations

import datetime
import json
import logging
import sys

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("text", "json")

#: Where our own rooms log: each under its package's name.
PACKAGES = ("headrace", "headrace_mounts", "headrace_cache", "headrace_namespace")

#: What a record carries anyway; whatever else it carries was given as `extra`: the fields.
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}


def set_up_logs(level: str, form: str) -> None:
    """Let our rooms be heard from this level on. Called again, it takes the place of before."""
    handler = _ToStandardError()
    handler.setFormatter(JsonLine() if form == "json" else TextLine())
    for package in PACKAGES:
        logger = logging.getLogger(package)
        logger.setLevel(level.upper())
        logger.handlers = [handler]
        logger.propagate = False


class _ToStandardError(logging.Handler):
    """To what standard error is at that moment; where it cannot be written nothing is said."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
        except (OSError, ValueError):
            return


class TextLine(logging.Formatter):
    """`headrace: warning: the sentence (room)`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        fields = "".join(f" {name}={value}" for name, value in _fields(record).items())
        return f"headrace: {record.levelname.lower()}: {_message(record)}{fields} ({record.name})"


class JsonLine(logging.Formatter):
    """One object a line: `time level room message fields`; the time in UTC, as RFC 3339 has it."""

    def format(self, record: logging.LogRecord) -> str:
        """One line of ASCII."""
        at = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        return json.dumps(
            {
                "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                "level": record.levelname.lower(),
                "room": record.name,
                "message": _message(record),
                "fields": _fields(record),
            },
            default=str,
        )


def _message(record: logging.LogRecord) -> str:
    return record.getMessage().replace("\n", " ")


def _fields(record: logging.LogRecord) -> dict[str, object]:
    """What was given as `extra`, and the kind of the error that was caught."""
    fields = {name: value for name, value in vars(record).items() if name not in _STANDARD}
    if record.exc_info and record.exc_info[0] is not None:
        fields["error"] = record.exc_info[0].__name__
    return fields
