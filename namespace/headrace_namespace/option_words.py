"""Mount options that came as words, from a command line: each is read as what its reader asks for.

`anon=true` is a text there, and only the store's own code knows that it means true. A word that
cannot be what is asked for stays a text, so that the error is the usual one.
"""

from __future__ import annotations

from headrace_namespace.config import Table

_TRUTH = {"true": True, "false": False}


class OptionWords(Table):
    """The same table; a text stands for the whole number, or the true or false, that it spells."""

    def __init__(self, options: Table) -> None:
        super().__init__(options._data, options._document, options._place)

    def _take(self, key: str, kind: type) -> object:
        word = self._data.get(key)
        if isinstance(word, str):
            if kind is bool and word.lower() in _TRUTH:
                self._asked.add(key)
                return _TRUTH[word.lower()]
            if kind is int and word.isascii() and word.removeprefix("-").isdecimal():
                self._asked.add(key)
                return int(word[:20])  # more digits are refused by every bound
        return super()._take(key, kind)
