"""Reading the pages of ListObjectsV2, and the tokens by which a listing goes on."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple
from urllib.parse import unquote_plus
from xml.parsers import expat

from headrace_namespace.errors import StoreAnswerWrong

#: A page holds at most 1,000 keys of 1,024 bytes, each byte escaped as %XX.
MOST_BODY_BYTES = 8 << 20

_ENDPOINT = "check that endpoint_url leads to an S3 store"

# Ceph's token is the last key as it is, which XML cannot hold where it has control characters:
# they pass the parser as the 32 characters that Unicode promises never to give a meaning.
_CONTROL = re.compile(rb"&#(?:x([0-9A-Fa-f]{1,2})|([0-9]{1,2}));")
_FIRST_NONCHARACTER = 0xFDD0
_TO_CONTROL = {_FIRST_NONCHARACTER + code: code for code in range(32)}


class ListedObject(NamedTuple):
    """One object of a page: its full key, and what S3 shows of its version."""

    # A tuple, because it is made a hundred thousand times for a moment each.
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
    contents: list[dict[str, str]] = []
    prefixes: list[str] = []
    top = _read_fields(body, contents, prefixes)
    decoded = _decoded if top.get("EncodingType") == "url" else str
    return ListingPage(
        [_object(fields, decoded) for fields in contents],
        [decoded(prefix) for prefix in prefixes],
        _next_token(top),
    )


def _read_fields(
    body: bytes, contents: list[dict[str, str]], prefixes: list[str]
) -> dict[str, str]:
    """The texts of the document by name; those of each object and each prefix go into the lists.

    The handlers run 20 times for each object, so they are closures that do the least. A tree of
    elements is parsed sooner, but is a hundred thousand objects that Python's garbage collector
    then walks through: with it a large listing takes a quarter more.
    """
    texts: list[str] = []
    fields: dict[str, str] = {}
    top: dict[str, str] = {}
    depth = 0
    local = _LocalNames()

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth, fields
        if not depth and local[tag] != "ListBucketResult":
            raise StoreAnswerWrong(f"the listing is a <{local[tag]}> document", hint=_ENDPOINT)
        depth += 1
        texts.clear()
        if depth == 2:
            fields = {}

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        if depth == 2:
            fields[local[tag]] = texts[0] if len(texts) == 1 else "".join(texts)
        elif depth == 1:
            name = local[tag]
            if name == "Contents":
                contents.append(fields)
            elif name == "CommonPrefixes":
                prefixes.append(fields.get("Prefix", ""))
            else:
                top[name] = "".join(texts)

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = texts.append
    parser.StartDoctypeDeclHandler = _refuse_doctype
    try:
        parser.Parse(body, True)
    except expat.ExpatError as error:
        raise StoreAnswerWrong(f"the listing is not XML: {error}", hint=_ENDPOINT) from None
    return top


def _refuse_doctype(*args: object) -> None:
    """Without a document type there are no entities that could grow."""
    raise StoreAnswerWrong("the listing is not S3's XML", hint=_ENDPOINT)


class _LocalNames(dict[str, str]):
    """The names of tags without their prefix: a page has a dozen, thousands of times."""

    def __missing__(self, tag: str) -> str:
        name = self[tag] = tag.rpartition(":")[2]
        return name


def _object(fields: Mapping[str, str], decoded: Callable[[str], str]) -> ListedObject:
    try:
        size, key = int(fields["Size"]), fields["Key"]
    except (KeyError, ValueError):
        raise StoreAnswerWrong("the listing holds an object without key or size") from None
    return ListedObject(decoded(key), fields.get("ETag", ""), size, fields.get("LastModified", ""))


def _decoded(text: str) -> str:
    """AWS writes a space as +, Ceph and moto as %20; all write a plus as %2B."""
    return unquote_plus(text) if "%" in text or "+" in text else text


def _next_token(top: Mapping[str, str]) -> str | None:
    """S3's token for the next page, which is not encoded even where the keys are."""
    if top.get("IsTruncated") != "true":
        return None
    token = top.get("NextContinuationToken", "").translate(_TO_CONTROL)
    if not token:
        raise StoreAnswerWrong("the listing goes on, but says not where")
    return token


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
