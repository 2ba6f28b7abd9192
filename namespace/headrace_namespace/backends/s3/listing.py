"""Reading the pages of ListObjectsV2, and the tokens by which a listing goes on."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import unquote_plus
from xml.parsers import expat

from headrace_namespace.errors import StoreAnswerWrong

#: A page holds at most 1,000 keys of 1,024 bytes, each byte escaped as %XX.
MOST_BODY_BYTES = 8 << 20

# Ceph's token is the last key as it is, which XML cannot hold where it has control characters:
# they pass the parser as the 32 characters that Unicode promises never to give a meaning.
_CONTROL = re.compile(rb"&#(?:x([0-9A-Fa-f]{1,2})|([0-9]{1,2}));")
_FIRST_NONCHARACTER = 0xFDD0
_TO_CONTROL = {_FIRST_NONCHARACTER + code: code for code in range(32)}


@dataclass(frozen=True, slots=True)
class ListedObject:
    """One object of a page: its full key, and what S3 shows of its version."""

    key: str
    etag: str
    size: int
    modified: str

    @property
    def mtime(self) -> float | None:
        """Seconds since the epoch, None where the store showed no time."""
        try:
            return datetime.fromisoformat(self.modified).timestamp()
        except ValueError:
            return None


@dataclass(slots=True)
class ListingPage:
    """One page: objects, common prefixes (`a/b/`), and S3's token for the next."""

    objects: list[ListedObject] = field(default_factory=list[ListedObject])
    prefixes: list[str] = field(default_factory=list[str])
    next_token: str | None = None


def read_listing(response: http.client.HTTPResponse) -> ListingPage:
    """The page in an answer. Raises StoreAnswerWrong where it is none."""
    body = response.read(MOST_BODY_BYTES + 1)
    if len(body) > MOST_BODY_BYTES:
        raise StoreAnswerWrong(f"the listing has a page of more than {MOST_BODY_BYTES} bytes")
    return parse_listing(body)


def parse_listing(body: bytes) -> ListingPage:
    """The page in an answer's body. Raises StoreAnswerWrong where it is none."""
    if b"&#" in body:
        body = _CONTROL.sub(_passable, body)
    reader = _Reader()
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = reader.doctype
    try:
        parser.Parse(body, True)
    except expat.ExpatError as error:
        raise StoreAnswerWrong(
            f"the listing is not XML: {error}", hint="check that endpoint_url leads to an S3 store"
        ) from None
    return reader.finish()


class _Reader:
    def __init__(self) -> None:
        self._page = ListingPage()
        self._path: list[str] = []
        self._fields: dict[str, str] = {}
        self._top: dict[str, str] = {}
        self._text: list[str] = []

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        name = tag.rpartition(" ")[2]
        if not self._path and name != "ListBucketResult":
            raise StoreAnswerWrong(
                f"the listing is a <{name}> document",
                hint="check that endpoint_url leads to an S3 store",
            )
        self._path.append(name)
        self._text = []
        if len(self._path) == 2:
            self._fields = {}

    def end(self, tag: str) -> None:
        name, depth = self._path.pop(), len(self._path)
        if depth == 2:
            self._fields[name] = "".join(self._text)
        elif depth == 1:
            if name == "Contents":
                self._contents(self._fields)
            elif name == "CommonPrefixes":
                self._page.prefixes.append(self._fields.get("Prefix", ""))
            else:
                self._top[name] = "".join(self._text)

    def text(self, data: str) -> None:
        self._text.append(data)

    def doctype(self, *args: object) -> None:
        raise StoreAnswerWrong(
            "the listing is not S3's XML", hint="check that endpoint_url leads to an S3 store"
        )

    def finish(self) -> ListingPage:
        page = self._page
        # The token is not encoded even where the keys are.
        if self._top.get("IsTruncated") == "true":
            page.next_token = (
                self._top.get("NextContinuationToken", "").translate(_TO_CONTROL) or None
            )
            if page.next_token is None:
                raise StoreAnswerWrong("the listing goes on, but says not where")
        # AWS writes a space as +, Ceph and moto as %20; all write a plus as %2B.
        if self._top.get("EncodingType") == "url":
            page.prefixes = [unquote_plus(prefix) for prefix in page.prefixes]
            page.objects = [
                ListedObject(unquote_plus(o.key), o.etag, o.size, o.modified) for o in page.objects
            ]
        return page

    def _contents(self, fields: dict[str, str]) -> None:
        try:
            size = int(fields["Size"])
            key = fields["Key"]
        except (KeyError, ValueError):
            raise StoreAnswerWrong("the listing holds an object without key or size") from None
        listed = ListedObject(key, fields.get("ETag", ""), size, fields.get("LastModified", ""))
        self._page.objects.append(listed)


def _passable(reference: re.Match[bytes]) -> bytes:
    code = int(reference[1], 16) if reference[1] else int(reference[2])
    return chr(_FIRST_NONCHARACTER + code).encode() if code < 32 else reference[0]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a listing has come, as the token between its pages.

    `shadows` are objects already given whose folders of the same name may still come: `a` sorts
    before `a/`, and `a-b` between them. `seen` is whether anything at all was found.
    """

    continuation: str | None = None
    shadows: frozenset[str] = frozenset()
    seen: bool = False

    def token(self) -> str:
        """As a text."""
        return json.dumps([self.continuation, sorted(self.shadows), self.seen])

    @classmethod
    def parse(cls, token: str | None) -> Progress:
        """The progress in a token made by `token`; the beginning for None."""
        if token is None:
            return cls()
        continuation, shadows, seen = json.loads(token)
        return cls(continuation, frozenset(shadows), seen)


def shadows_after(last: str, names: Iterable[str]) -> frozenset[str]:
    """Those object names whose folder sorts after `last`, the last name that was listed."""
    end = last.encode()
    return frozenset(name for name in names if f"{name}/".encode() > end)
