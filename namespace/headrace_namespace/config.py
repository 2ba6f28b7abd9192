"""Reading a TOML document strictly: every key is asked for, and what nobody asked for is refused.

A `Table` hands out its values one by one and remembers which keys were asked for; `done()` then
refuses the rest, naming file, line and the nearest right key. Settings, mount options and policy
rules are all read this way, so a misspelt key can never be passed over.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

from headrace_namespace.errors import ConfigError
from headrace_namespace.units import parse_bytes, parse_seconds

_TYPE_NAMES = {str: "a text", int: "a whole number", bool: "true or false"}

#: Where a key stands in a document: ("mount", 0, "options", "endpoint_url").
Place = tuple[str | int, ...]


#: A configuration is written by hand; more than this is the wrong file, or a device.
MAX_FILE_BYTES = 4 << 20


def read_text(file: Path, what: str) -> str:
    """The text of a file written by hand, its byte order mark dropped; `what` names it in errors.

    Raises ConfigError where it cannot be read, is not UTF-8, or has more than `MAX_FILE_BYTES`.
    """
    try:
        with file.open("rb") as stream:
            raw = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"the {what} {file} cannot be read: {error.strerror}") from error
    if len(raw) > MAX_FILE_BYTES:
        raise ConfigError(f"the {what} {file} has more than {MAX_FILE_BYTES} bytes")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"the {what} {file} is not UTF-8 text (line {line})") from None


def parse_toml(text: str, name: str) -> Table:
    """The document in `text`, as a strict table; `name` is the file's name for messages.

    Raises ConfigError where it is not TOML, with the line.
    """
    try:
        data = tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError, or a number with too many digits
        raise ConfigError(f"{name} is not valid TOML: {error}") from None
    except RecursionError:
        raise ConfigError(f"{name} is not valid TOML: it is nested too deeply") from None
    return Table(data, _Document(name, _lines_of(text), data), ())


def table_from(data: Mapping[str, object], name: str) -> Table:
    """A document given as a dict instead of a file, read as strictly."""
    return Table(data, _Document(name, {}, data), ())


class _Document:
    def __init__(self, name: str, lines: Mapping[Place, int], data: Mapping[str, object]) -> None:
        self.name = name
        self._lines = lines
        self._data = data

    def shown(self, place: Place) -> str:
        """How a person would write the place: `mount["/lake"].options.endpoint_url`.

        A table in an array goes by its `path` or `name`; by its index, from 0, where it has none.
        """
        shown = ""
        value: object = self._data
        for part in place:
            if isinstance(part, int):
                value = _item(value, part)
                own = _item(value, "path") or _item(value, "name")
                named = isinstance(own, str) and own
                shown += f"[{json.dumps(own, ensure_ascii=False) if named else part}]"
            else:
                value = _item(value, part)
                shown += f".{part}" if shown else part
        return shown

    def where(self, place: Place) -> str:
        """`file, line 12` for the nearest enclosing place whose line is known."""
        for end in range(len(place), 0, -1):
            line = self._lines.get(place[:end])
            if line is not None:
                return f"{self.name}, line {line}"
        return self.name


class Table:
    """One table of a document, handed out key by key; call `done` when all keys were asked for."""

    def __init__(self, data: Mapping[str, object], document: _Document, place: Place) -> None:
        self._data = data
        self._document = document
        self._place = place
        self._asked: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._data

    def plain(self) -> Mapping[str, object]:
        """The table as plain values, for a fingerprint; counts as asking for nothing."""
        return self._data

    def with_texts(self, change: Callable[[str], str]) -> Table:
        """The same table with `change` made to every text in it, however deep; keys stay.

        A ValueError of `change` becomes a ConfigError that names the place.
        """
        data = {
            key: self._changed((*self._place, key), self._data[key], change) for key in self._data
        }
        return Table(data, self._document, self._place)

    def _changed(self, place: Place, value: object, change: Callable[[str], str]) -> object:
        if isinstance(value, str):
            try:
                return change(value)
            except ValueError as error:
                where, shown = self._document.where(place), self._document.shown(place)
                raise ConfigError(f"{where}: {shown}: {error}") from None
        if isinstance(value, Mapping):
            items = cast("Mapping[str, object]", value).items()
            return {key: self._changed((*place, key), item, change) for key, item in items}
        if isinstance(value, list | tuple):
            parts = enumerate(cast("Sequence[object]", value))
            return [self._changed((*place, index), item, change) for index, item in parts]
        return value

    def error(self, key: str | None, message: str, hint: str | None = None) -> ConfigError:
        """An error about `key` of this table (or the whole table), naming file and line."""
        return ConfigError(f"{self.where(key)}: {message}", hint=hint)

    def error_beside(self, key: str, message: str, hint: str | None = None) -> ConfigError:
        """An error about `key` of the table that holds this one: the `url` of a mount's options."""
        beside = Table({}, self._document, self._place[:-1])
        return beside.error(key, message, hint)

    def where(self, key: str | None) -> str:
        """Where `key` of this table (or the whole table) stands, as errors say it: `file, line 12:
        mount["/lake"].options.profile`. For what only shows to be wrong when it is used."""
        place = self._place if key is None else (*self._place, key)
        shown = self._document.shown(place)
        file = self._document.where(place)
        return f"{file}: {shown}" if shown else file

    def text(self, key: str, default: str | None = None) -> str:
        """A text; required where `default` is None."""
        value = self._take(key, str)
        if value is None and default is None:
            raise self._missing(key)
        return cast(str, default if value is None else value)

    def optional_text(self, key: str) -> str | None:
        """A text, or None where the key is absent."""
        return cast("str | None", self._take(key, str))

    def boolean(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self._take(key, bool)
        return default if value is None else bool(value)

    def integer(self, key: str, default: int | None = None, *, least: int = 0) -> int:
        """A whole number of at least `least`; required where `default` is None."""
        value = cast("int | None", self._take(key, int))
        if value is None:
            if default is None:
                raise self._missing(key)
            return default
        if value < least:
            raise self.error(key, f"must be at least {least}, not {value}")
        return value

    def texts(self, key: str, default: Sequence[str] = ()) -> tuple[str, ...]:
        """A list of texts."""
        self._asked.add(key)
        if key not in self._data:
            return tuple(default)
        value = self._data[key]
        if not isinstance(value, list | tuple):
            raise self.error(key, f"must be a list of texts, not {value!r}")
        items = cast("Sequence[object]", value)
        if not all(isinstance(item, str) for item in items):
            raise self.error(key, f"must be a list of texts, not {value!r}")
        return tuple(cast("Sequence[str]", items))

    def choice(self, key: str, allowed: Sequence[str], default: str | None = None) -> str:
        """One of a few words; required where `default` is None."""
        value = self.text(key, default)
        if value not in allowed:
            raise self.error(
                key, f"{value!r} is not one of {', '.join(allowed)}", _near(value, allowed)
            )
        return value

    def size(self, key: str, default: int) -> int:
        """A number of bytes: `"2GiB"`, or a whole number."""
        value = self._take_quantity(key)
        if value is None:
            return default
        try:
            return parse_bytes(str(value))
        except ValueError as error:
            raise self.error(key, str(error), 'write it like "2GiB" or "512MiB"') from None

    def seconds(self, key: str, default: float) -> float:
        """A length of time: `"30s"`, or a number of seconds."""
        value = self._take_quantity(key)
        if value is None:
            return default
        try:
            return parse_seconds(str(value))
        except ValueError as error:
            raise self.error(key, str(error), 'write it like "30s" or "10m"') from None

    def table(self, key: str) -> Table:
        """A table within this one; an empty one where it is absent."""
        self._asked.add(key)
        value = self._data.get(key, {})
        if not isinstance(value, Mapping):
            raise self.error(key, "must be a table")  # what stands there may be a secret
        return Table(cast("Mapping[str, object]", value), self._document, (*self._place, key))

    def tables(self, key: str) -> list[Table]:
        """The tables of an array of tables (`[[mount]]`); none where it is absent."""
        self._asked.add(key)
        value = self._data.get(key, [])
        if not isinstance(value, list | tuple) or not all(
            isinstance(item, Mapping) for item in cast("Sequence[object]", value)
        ):
            dotted = ".".join(part for part in (*self._place, key) if isinstance(part, str))
            raise self.error(key, f"must be written as [[{dotted}]] tables")
        return [
            Table(item, self._document, (*self._place, key, index))
            for index, item in enumerate(cast("Sequence[Mapping[str, object]]", value))
        ]

    def done(self) -> None:
        """Refuse every key that was not asked for."""
        for key in self._data:
            if key not in self._asked:
                allowed = sorted(self._asked)
                hint = _near(key, allowed) or f"known here: {', '.join(allowed) or 'nothing'}"
                raise self.error(key, "is not a known key", hint)

    def _missing(self, key: str) -> ConfigError:
        close = difflib.get_close_matches(key, self._data.keys() - self._asked, n=1)
        hint = f"is {close[0]!r} a misspelling of it?" if close else None
        return self.error(None, f"{key!r} is missing", hint)

    def _take(self, key: str, kind: type) -> object:
        self._asked.add(key)
        if key not in self._data:
            return None
        value = self._data[key]
        # bool is an int in Python; a configuration means one or the other.
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.error(key, f"must be {_TYPE_NAMES[kind]}, not {value!r}")
        return value

    def _take_quantity(self, key: str) -> str | int | float | None:
        self._asked.add(key)
        value = self._data.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise self.error(key, f"must be a quantity, not {value!r}")
        return value


def _near(word: str, allowed: Sequence[str]) -> str | None:
    caseless = {candidate.lower(): candidate for candidate in allowed}
    close = difflib.get_close_matches(word.lower(), caseless, n=1, cutoff=0.6)
    return f"did you mean {caseless[close[0]]!r}?" if close else None


def _item(value: object, part: str | int) -> object:
    """What stands at `part` of a table or list; None where there is nothing such."""
    if isinstance(value, Mapping):
        return cast("Mapping[str | int, object]", value).get(part)
    if isinstance(value, list | tuple) and isinstance(part, int):
        items = cast("Sequence[object]", value)
        return items[part] if part < len(items) else None
    return None


_HEADER = re.compile(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?")
_NAME = r"""(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')"""
_KEY = re.compile(rf"\s*({_NAME}(?:\s*\.\s*{_NAME})*)\s*=")


def _lines_of(text: str) -> dict[Place, int]:
    """The line of each key and header, found by their looks: tomllib does not say.

    Good for messages only; a line that it cannot place is simply absent.
    """
    lines: dict[Place, int] = {}
    counts: dict[Place, int] = {}
    header: Place = ()
    # TOML knows no other line ends; splitlines would also split at U+2028 within a text.
    for number, line in enumerate(text.split("\n"), start=1):
        found = _HEADER.fullmatch(line)
        if found:
            array = found[1] == "[["
            header = _resolved(found[2], counts, new=array)
            lines.setdefault(header, number)
            if array:
                lines.setdefault(header[:-1], number)  # for a complaint about the array itself
        elif key := _KEY.match(line):
            place: Place = header
            for part in _names(key[1]):
                place = (*place, part)
                lines.setdefault(place, number)
    return lines


def _resolved(dotted: str, counts: dict[Place, int], *, new: bool) -> Place:
    """A header's place, each array of tables standing for its latest element."""
    place: Place = ()
    names = _names(dotted)
    for position, name in enumerate(names):
        place = (*place, name)
        if new and position == len(names) - 1:
            counts[place] = counts.get(place, -1) + 1
        if place in counts:
            place = (*place, counts[place])
    return place


def _names(dotted: str) -> list[str]:
    return [part.strip().strip("\"'") for part in dotted.split(".")]
