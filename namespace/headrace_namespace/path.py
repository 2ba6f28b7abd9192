"""What a path of the tree is: one normal form, made once, trusted afterwards.

A path is literal text, as in S3, Hadoop and fsspec: nothing in it is decoded, so `%20`, `#`, `?`,
`@`, spaces and newlines mean themselves (decisions/0001-paths-are-literal.md). Doubled slashes and
`.` vanish, `..` is resolved by the text, a trailing slash is dropped. A name keeps its Unicode
spelling, because stores do; where an exact name is not found, its other normal form is tried, and
policy compares folded forms, so that no spelling escapes a rule.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from headrace_namespace.errors import InvalidPath, NameTooLong

SCHEME = "headrace"

#: Linux's PATH_MAX; no store that we know can hold more.
MAX_PATH_BYTES = 4096

#: Texts whose normal form is remembered: some 4 MB of usual paths. A job opens the same again.
MOST_PARSED = 10_000


@dataclass(frozen=True, slots=True, order=True)
class NamespacePath:
    """A path of the tree in normal form: starts with `/`, no trailing slash, no `.`, `..`, `//`.

    Make one with `NamespacePath.parse`; the bare constructor trusts its argument.
    """

    text: str

    @staticmethod
    def parse(text: str) -> NamespacePath:
        """The normal form of `text`, which may be a `headrace:///` URL or a plain path.

        Raises InvalidPath where no object can have such a name, and NameTooLong past 4096 bytes.
        """
        return _parsed(text)

    @property
    def parts(self) -> tuple[str, ...]:
        """The names from the root down; empty for the root."""
        return tuple(self.text[1:].split("/")) if self.text != "/" else ()

    @property
    def name(self) -> str:
        """The last name; empty for the root."""
        return self.text.rsplit("/", 1)[1]

    @property
    def parent(self) -> NamespacePath:
        """The folder that holds this path; the root is its own parent."""
        return NamespacePath(self.text.rsplit("/", 1)[0] or "/")

    def child(self, name: str) -> NamespacePath:
        """The path of `name` in this folder; `name` must satisfy `can_name`."""
        return NamespacePath(("" if self.text == "/" else self.text) + "/" + name)

    def below(self, relative: str) -> NamespacePath:
        """This path with a relative normal path (`a/b`, or nothing) added."""
        return self.child(relative) if relative else self

    def is_under(self, folder: NamespacePath) -> bool:
        """Whether this is `folder` itself or anything below it."""
        if folder.text == "/" or self.text == folder.text:
            return True
        return self.text.startswith(folder.text + "/")

    def relative_to(self, folder: NamespacePath) -> str:
        """What follows `folder` in this path (`a/b`, or nothing for the folder itself)."""
        assert self.is_under(folder), (self, folder)
        return self.text[len(folder.text) :].lstrip("/")

    @property
    def folded(self) -> str:
        """The form by which policy compares: Unicode composed, case folded."""
        return fold(self.text)

    def __str__(self) -> str:
        return self.text


ROOT = NamespacePath("/")


def can_name(name: str) -> bool:
    """Whether a store's own name can stand as one name of the tree."""
    return name not in ("", ".", "..") and "/" not in name and "\0" not in name


def fold(text: str) -> str:
    """The caseless, composed form of a text (Unicode 3.13, definition D145, then NFC).

    Two spellings that a store could take for one name always have one folded form.
    """
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFD", text).casefold()
    return unicodedata.normalize("NFC", decomposed)


def other_spelling(text: str) -> str | None:
    """The composed form of a text, or the decomposed one where it is composed; None where equal."""
    if text.isascii():
        return None
    for form in ("NFC", "NFD"):
        other = unicodedata.normalize(form, text)
        if other != text:
            return other
    return None


@lru_cache(MOST_PARSED)
def _parsed(text: str) -> NamespacePath:
    plain = _without_scheme(text)
    if "\0" in plain:
        raise InvalidPath("a path cannot contain the NUL character", path=text)
    try:
        size = len(plain.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        raise InvalidPath(
            "the path contains a lone surrogate, which no store can hold", path=text
        ) from None
    if size > MAX_PATH_BYTES:
        raise NameTooLong(
            f"the path has {size} bytes, and at most {MAX_PATH_BYTES} can be named", path=text
        )
    parts: list[str] = []
    for part in plain.split("/"):
        if part in ("", "."):
            continue
        if part == "..":
            if not parts:
                raise InvalidPath("the path leads above the root of the tree", path=text)
            parts.pop()
        else:
            parts.append(part)
    return NamespacePath("/" + "/".join(parts))


def _without_scheme(text: str) -> str:
    prefix = SCHEME + "://"
    if not text.startswith(prefix):
        return text
    rest = text[len(prefix) :]
    if rest and not rest.startswith("/"):
        host, _, path = rest.partition("/")
        if ":" in host:
            raise InvalidPath(
                f"{text} is a path of the node {host}, and here is asked for one of the tree",
                path=text,
                hint=f"write --node {host} /{path}; in Python give node={host!r}",
            )
        raise InvalidPath(
            f"{host!r} stands where the address of a node belongs, host:port",
            path=text,
            hint=f"for a path of the tree write three slashes: {prefix}/{rest}",
        )
    return rest
