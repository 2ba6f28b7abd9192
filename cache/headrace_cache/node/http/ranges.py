"""What the conditions and the range of a request ask of an object. Pure (RFC 9110, 13 and 14)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus

_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")
_TAG = re.compile(r'(?:W/)?"([^"]*)"')


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes `start` to `stop` (exclusive); `partial` where that was asked for."""

    start: int
    stop: int
    partial: bool

    @property
    def status(self) -> HTTPStatus:
        """What an answer with it is called."""
        return HTTPStatus.PARTIAL_CONTENT if self.partial else HTTPStatus.OK

    def headers(self, size: int) -> dict[str, str]:
        """The headers that are about the range, of an object of `size` bytes."""
        told = {"Content-Length": str(self.stop - self.start)}
        if self.partial:
            told["Content-Range"] = f"bytes {self.start}-{self.stop - 1}/{size}"
        return told


def byte_range(header: str | None, size: int) -> ByteRange | None:
    """The range in a Range header; the whole object where there is none, or several, or nonsense,
    as HTTP demands; None where it cannot be satisfied (416)."""
    whole = ByteRange(0, size, partial=False)
    match = None if header is None else _RANGE.fullmatch(header.strip())
    if match is None or (not match[1] and not match[2]):
        return whole
    if not match[1]:
        length = int(match[2])
        return ByteRange(max(0, size - length), size, partial=True) if length and size else None
    start = int(match[1])
    last = int(match[2]) if match[2] else size - 1
    if match[2] and last < start:
        return whole
    return ByteRange(start, min(last + 1, size), partial=True) if start < size else None


def tags(header: str | None) -> frozenset[str]:
    """The entity tags of an If-Match or If-None-Match header; `*` stands for any."""
    if header is None:
        return frozenset()
    return frozenset({"*"} if header.strip() == "*" else _TAG.findall(header))


def matches(header: str | None, etag: str) -> bool:
    """Whether an entity tag is among those of a header."""
    named = tags(header)
    return "*" in named or etag in named


def one_tag(header: str | None) -> str | None:
    """The one version that a header names; None where it names none or several."""
    named = tags(header) - {"*"}
    return next(iter(named)) if len(named) == 1 else None
