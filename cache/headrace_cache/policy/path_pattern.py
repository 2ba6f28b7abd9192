"""Path patterns of policy rules, and what they cover.

`*` and `?` stand for characters within one name, `**` for any number of whole names; every other
character means itself, `[`, `{` and `!` too, and there is no escape. A pattern that *applies* a
rule is matched on folded text and covers everything below what it matches; a pattern that
*excludes* is matched on exact composed text (NFC) and covers nothing more than it says. So neither
the case nor the Unicode spelling of a path, nor a deeper path, can get around a rule.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from headrace_namespace.errors import InvalidPath
from headrace_namespace.path import MAX_PATH_BYTES, fold

_WILDCARD = re.compile(r"[*?]")
#: What may end a pattern without changing what it covers: it covers all below anyway.
_ENDING = re.compile(r"(/\*\*)+\Z")


def as_folder(text: str) -> str:
    """A normal path with the slash that ends each of its names: what patterns are matched on."""
    return text if text == "/" else text + "/"


def composed(text: str) -> str:
    """The exact form (NFC) by which exclusions compare."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


@dataclass(frozen=True, slots=True)
class PathPattern:
    """One pattern, checked and compiled. Make one with `PathPattern.parse`."""

    text: str
    #: The folded text up to its last name, where it has no wildcard but an ending `/**`.
    prefix: str | None
    applying: re.Pattern[str]
    excluding: re.Pattern[str]
    #: Which folders (folded) may hold a child that is matched itself; None: no single ones.
    holding: re.Pattern[str] | None
    #: Of which folders (exact) every child is excluded; None: none for sure.
    emptying: re.Pattern[str] | None

    @classmethod
    def parse(cls, text: str) -> PathPattern:
        """The pattern that `text` says. Raises InvalidPath with a hint where it is none."""
        _check(text)
        folded = fold(text)
        plain = _ENDING.sub("", folded) or "/"
        return cls(
            text=text,
            prefix=None if _WILDCARD.search(plain) else as_folder(plain),
            applying=re.compile(_expression(folded)),
            excluding=re.compile(_expression(composed(text), to_the_end=True)),
            holding=_holding(plain),
            emptying=_emptying(composed(text)),
        )

    @property
    def start(self) -> str:
        """The folded names before the first wildcard: all that it covers begins so."""
        plain = _WILDCARD.split(fold(self.text), maxsplit=1)[0]
        return plain[: plain.rindex("/") + 1] if plain != fold(self.text) else as_folder(plain)

    def applies_to(self, folder: str) -> bool:
        """Whether a path (folded, then `as_folder`) is covered: matched, or below a match."""
        return self.applying.match(folder) is not None

    def excludes(self, folder: str) -> bool:
        """Whether a path (`composed`, then `as_folder`) is excluded: matched itself."""
        return self.excluding.match(folder) is not None

    def could_apply_in(self, folder: str) -> bool:
        """Whether it covers anything that can lie directly in a folder (folded, `as_folder`)."""
        if self.applies_to(folder):
            return True
        return self.holding is not None and self.holding.match(folder) is not None

    def excludes_all_in(self, folder: str) -> bool:
        """Whether all that can lie directly in a folder (`composed`, `as_folder`) is excluded.

        False where that is not plain from this pattern alone.
        """
        if folder == "/":
            return self.excludes(folder) and self.text.endswith("/**")  # it may be an object itself
        return self.emptying is not None and self.emptying.match(folder) is not None


class PathPatterns:
    """The patterns of one condition, of which any may match; compiled to be asked at every open."""

    def __init__(self, patterns: Sequence[PathPattern]) -> None:
        self.patterns = tuple(patterns)
        self._prefixes = tuple(p.prefix for p in self.patterns if p.prefix is not None)
        rest = [p.applying.pattern for p in self.patterns if p.prefix is None]
        self._rest = re.compile("|".join(rest)) if rest else None

    def apply_to(self, folder: str) -> bool:
        """Whether any pattern applies to a path (folded, then `as_folder`)."""
        if folder.startswith(self._prefixes):
            return True
        return self._rest is not None and self._rest.match(folder) is not None

    def may_apply_below(self, folder: str) -> bool:
        """Whether any pattern could apply to something in `folder` (folded, then `as_folder`)."""
        return any(p.start.startswith(folder) or folder.startswith(p.start) for p in self.patterns)

    def which_applies_to(self, folder: str) -> PathPattern | None:
        """The first pattern that applies to a path; None if none does."""
        return next((p for p in self.patterns if p.applies_to(folder)), None)

    def exclude(self, folder: str) -> bool:
        """Whether any pattern excludes a path (`composed`, then `as_folder`)."""
        return any(p.excludes(folder) for p in self.patterns)

    def could_apply_in(self, folder: str) -> bool:
        """Whether any pattern covers anything that can lie in a folder (folded, `as_folder`)."""
        return any(p.could_apply_in(folder) for p in self.patterns)

    def exclude_all_in(self, folder: str) -> bool:
        """Whether one pattern excludes all that can lie in a folder (`composed`, `as_folder`)."""
        return any(p.excludes_all_in(folder) for p in self.patterns)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PathPatterns) and self.texts == other.texts

    def __hash__(self) -> int:
        return hash(self.texts)

    @property
    def texts(self) -> tuple[str, ...]:
        """The patterns as they are written."""
        return tuple(pattern.text for pattern in self.patterns)


def _check(text: str) -> None:
    """Refuse a pattern that could mean something else than its author believes."""
    if not text.startswith("/"):
        raise _refusal(text, "does not start with a slash", f"write {'/' + text!r}")
    if text == "/":
        return
    if text.endswith("/"):
        raise _refusal(
            text,
            "ends with a slash",
            f"write {text.rstrip('/') + '/**'!r}, which covers the folder and all that is in it",
        )
    if "\0" in text:
        raise _refusal(text, "contains the NUL character", "no path can contain it")
    if re.search(r"\\[*?\[]", text):
        raise _refusal(
            text,
            "has a backslash before a wildcard",
            "there is no escape; '?' covers any character",
        )
    if len(text.encode("utf-8", "surrogateescape")) > MAX_PATH_BYTES:
        raise _refusal(text, f"is longer than {MAX_PATH_BYTES} bytes", "no path is that long")
    for name in text[1:].split("/"):
        if name == "":
            raise _refusal(text, "has two slashes in a row", "paths never do; write one")
        if name in (".", ".."):
            raise _refusal(text, f"contains {name!r}", "write the path that it leads to")
        if "**" in name and name != "**":
            raise _refusal(
                text,
                f"has '**' beside other characters in {name!r}",
                "'**' stands for whole names: use '*' within a name, or '/**/' between slashes",
            )
    for wildcard in _WILDCARD.finditer(text):
        # An accent that belongs to no letter here is part of a composed letter in every path.
        after = text[wildcard.end() : wildcard.end() + 1]
        if after and unicodedata.combining(after):
            raise _refusal(
                text,
                f"has a combining mark after {wildcard[0]!r}",
                "write the whole letter, or '*'",
            )


def _refusal(text: str, problem: str, hint: str) -> InvalidPath:
    return InvalidPath(f"the pattern {text!r} {problem}", path=text, hint=hint)


def _holding(plain: str) -> re.Pattern[str] | None:
    """For a folded pattern without its ending `/**`: the folders that its last name lies in."""
    if plain == "/":
        return None  # it covers every folder whole
    folder = plain.rpartition("/")[0] or "/"
    return re.compile(_expression(folder, to_the_end=True))


def _emptying(text: str) -> re.Pattern[str] | None:
    """For an excluding pattern: the folders that it empties, because it ends with `*` or `**`."""
    if text.endswith("/**"):
        return re.compile(_expression(text, to_the_end=True))
    if text.endswith("/*") and text != "/*":
        return re.compile(_expression(text.removesuffix("/*"), to_the_end=True))
    return None


def _expression(text: str, *, to_the_end: bool = False) -> str:
    """The regular expression of a checked pattern, for a path that ends each name with a slash.

    Whoever names the path must not be able to make matching slow, so what follows a `*` or `**` is
    matched at its first place and never again (`(?>`): a later place could only leave less for the
    rest. Where the end is demanded, the names after the last `**` are the exception.
    """
    groups: list[list[str]] = [[]]
    for name in text[1:].split("/") if text != "/" else ():
        if name == "**":
            groups.append([])
        else:
            groups[-1].append(name)
    first, *others = ("".join(map(_name_expression, group)) for group in groups)
    expression = "/" + first
    for names in others[:-1]:
        expression += f"(?>(?:[^/]+/)*?{names})" if names else ""
    if not others:
        return expression + r"\Z" if to_the_end else expression
    if not others[-1]:
        return expression  # the pattern ends with `**`: whatever follows, it matches
    if to_the_end:
        return expression + rf"(?:[^/]+/)*?{others[-1]}\Z"
    return expression + f"(?>(?:[^/]+/)*?{others[-1]})"


def _name_expression(name: str) -> str:
    """One name and the slash that ends it."""
    first, *others = (_characters(piece) for piece in name.split("*"))
    if not others:
        return first + "/"
    *middles, last = others
    between = "".join(f"(?>[^/]*?{middle})" for middle in middles if middle)
    return f"(?>{first}{between}[^/]*{last}/)"


def _characters(piece: str) -> str:
    return "".join("[^/]" if character == "?" else re.escape(character) for character in piece)
