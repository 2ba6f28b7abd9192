"""How the sentence of an error names its path: one rule for Python, fsspec and the command line.

A sentence is made where a fault is seen, and may know no more than the store's own name of an
object. Who reads it knows the tree; and of the tree of a node of another host, its URL.
"""

from __future__ import annotations

import re
from typing import TypeVar

from headrace_namespace.errors import HeadraceError
from headrace_namespace.path import SCHEME

_Error = TypeVar("_Error", bound=HeadraceError)


def naming(path: str, said: str) -> str:
    """The sentence, which names the path itself; where it does not, with the path before it."""
    return said if _whole(path).search(said) else f"{path}: {said}"


def at_node(error: _Error, authority: str | None) -> _Error:
    """The same error, whose sentence names its path as a URL of the node at `authority`
    (`host:port`); as it is where that is None, or the error has no path of the tree.

    `path` stays the path in the node's tree, by which every call there names the object.
    """
    path = error.path
    if authority is None or path is None or not path.startswith("/"):
        return error
    url = f"{SCHEME}://{authority}{path}"
    said, count = _whole(path).subn(lambda _: url, error.message)
    return error.saying(said if count else naming(url, said))


def _whole(path: str) -> re.Pattern[str]:
    """Where a sentence names this path itself, or by a URL: not as the end of a store's own path,
    which says nothing to who knows only the tree, nor as the beginning of another."""
    url = rf"(?:{SCHEME}://[^/\s]*)?"
    return re.compile(rf"(?<![^\s'\"(]){url}{re.escape(path)}(?=$|[\s,;:)'\"]|\.(?:\s|$))")
