"""Which objects of the tree a person means: a path, a folder with all below it, or a pattern.

Everything streams: a folder of millions of objects is never held at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from headrace_cache.service import CacheService
from headrace_namespace.entry import Entry
from headrace_namespace.errors import HeadraceError, NotFound
from headrace_namespace.path import NamespacePath

_WILDCARD = re.compile(r"[*?]")


@dataclass(frozen=True, slots=True)
class Unlisted:
    """A folder that could not be listed, or a path that is not there, and why."""

    path: NamespacePath
    error: HeadraceError


def objects_at(service: CacheService, path: NamespacePath) -> Iterator[Entry | Unlisted]:
    """The object at `path`, or every object below that folder; or those that a pattern matches.

    `*` and `?` stand for characters within one name, `**` for any number of whole names; a folder
    that matches counts with all below it. A path that exists as it is spelt is no pattern.
    """
    try:
        entry = service.stat(path)
    except NotFound as error:
        if _WILDCARD.search(path.text):
            yield from _matching(service, path)
        else:
            yield Unlisted(path, error)
    except HeadraceError as error:
        yield Unlisted(path, error)
    else:
        if entry.is_folder:
            yield from objects_below(service, path)
        else:
            yield entry


def objects_below(service: CacheService, folder: NamespacePath) -> Iterator[Entry | Unlisted]:
    """Every object below a folder; folders that wait to be listed are all that is held.

    Links to folders are not followed: they lead in circles, or to what is found in its own place.
    """
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        try:
            for entry in service.list(here):
                if not entry.is_folder:
                    yield entry
                elif not entry.link:
                    waiting.append(entry.path)
        except HeadraceError as error:
            yield Unlisted(here, error)


def _matching(service: CacheService, pattern: NamespacePath) -> Iterator[Entry | Unlisted]:
    """Walk only where something can match: each folder on the way knows which parts may be next."""
    parts = pattern.parts
    fixed = next(i for i, part in enumerate(parts) if _WILDCARD.search(part))
    root = NamespacePath("/" + "/".join(parts[:fixed]))
    names = [None if part == "**" else _name_expression(part) for part in parts[fixed:]]
    waiting = [(root, _reachable(names, {0}))]
    found = False
    while waiting:
        folder, states = waiting.pop()
        try:
            for entry in service.list(folder):
                if entry.path == folder:  # an object lists as itself
                    after = states if len(names) in states else frozenset[int]()
                else:
                    after = _step(names, states, entry.path.name)
                if len(names) in after:
                    found = True
                    if entry.is_folder:
                        yield from objects_below(service, entry.path)
                    else:
                        yield entry
                elif after and entry.is_folder and not entry.link:
                    waiting.append((entry.path, after))
        except HeadraceError as error:
            yield Unlisted(folder, error)
            found = True
    if not found:
        yield Unlisted(pattern, NotFound(f"nothing matches {pattern}", path=pattern.text))


def _reachable(names: list[re.Pattern[str] | None], states: set[int]) -> frozenset[int]:
    """The states with those that a `**` for no name at all leads to."""
    reached = set(states)
    for state in range(len(names)):
        if state in reached and names[state] is None:
            reached.add(state + 1)
    return frozenset(reached)


def _step(names: list[re.Pattern[str] | None], states: frozenset[int], name: str) -> frozenset[int]:
    """The states after one more name of a path; the last one means that the pattern matched."""
    after: set[int] = set()
    for state in states:
        if state == len(names):
            continue
        expression = names[state]
        if expression is None:
            after.add(state)
        elif expression.fullmatch(name):
            after.add(state + 1)
    return _reachable(names, after)


def _name_expression(part: str) -> re.Pattern[str]:
    characters = (".*" if c == "*" else "." if c == "?" else re.escape(c) for c in part)
    return re.compile("".join(characters), re.DOTALL)
