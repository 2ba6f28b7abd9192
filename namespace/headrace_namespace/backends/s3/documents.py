"""The XML that writes to S3 send, and the XML that answers them."""

from __future__ import annotations

import http.client
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from headrace_namespace.backends.s3.errors import Fault
from headrace_namespace.errors import StoreAnswerWrong

#: An answer to a deletion holds at most 1,000 keys of 1,024 bytes, escaped, each with its error.
MOST_BODY_BYTES = 8 << 20

_SPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
#: What XML 1.0 cannot hold, however it is escaped.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
#: What a store may repeat of a key nevertheless, as it is or as a reference.
_CONTROL = re.compile(
    rb"[\x00-\x08\x0b\x0c\x0e-\x1f]|&#(?:0*[0-8]|0*1[124-9]|0*2[0-9]|0*3[01]|"
    rb"[xX]0*[0-8bcefBCEF]|[xX]0*1[0-9a-fA-F]);"
)
#: A parser makes a line feed of a carriage return, unless it comes as a reference.
_ESCAPES = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\t": "&#9;", "\n": "&#10;", "\r": "&#13;"}
)


@dataclass(frozen=True, slots=True)
class NotDeleted:
    """A key that a store did not delete, and why."""

    key: str
    code: str
    message: str


def fits_xml(key: str) -> bool:
    """Whether a request for many keys can name this one."""
    return _NOT_XML.search(key) is None


def deletion(keys: Iterable[str]) -> bytes:
    """The body that asks to delete `keys`, and to answer only what went wrong."""
    objects = "".join(f"<Object><Key>{key.translate(_ESCAPES)}</Key></Object>" for key in keys)
    return f'<Delete xmlns="{_SPACE}"><Quiet>true</Quiet>{objects}</Delete>'.encode()


def completion(etags: Sequence[str]) -> bytes:
    """The body that makes one object of its parts, given by their ETags in order."""
    parts = "".join(
        f'<Part><PartNumber>{number}</PartNumber><ETag>"{etag.translate(_ESCAPES)}"</ETag></Part>'
        for number, etag in enumerate(etags, 1)
    )
    return f'<CompleteMultipartUpload xmlns="{_SPACE}">{parts}</CompleteMultipartUpload>'.encode()


def read_fields(response: http.client.HTTPResponse) -> Mapping[str, str]:
    """The texts of an answer's document by name. Raises Fault where it is an error after all: what
    takes long is answered 200 before it is done."""
    root = _document(response)
    fields = {_local(child.tag): child.text or "" for child in root}
    if _local(root.tag) == "Error":
        raise _fault(response, fields.get("Code", ""), fields.get("Message", ""))
    return fields


def read_not_deleted(response: http.client.HTTPResponse) -> list[NotDeleted]:
    """What an answer to `deletion` says went wrong. Raises Fault as `read_fields`."""
    root = _document(response)
    if _local(root.tag) == "Error":
        fields = {_local(child.tag): child.text or "" for child in root}
        raise _fault(response, fields.get("Code", ""), fields.get("Message", ""))
    wrong: list[NotDeleted] = []
    for child in root:
        if _local(child.tag) == "Error":
            told = {_local(field.tag): field.text or "" for field in child}
            wrong.append(
                NotDeleted(told.get("Key", ""), told.get("Code", ""), told.get("Message", ""))
            )
    return wrong


def _document(response: http.client.HTTPResponse) -> ElementTree.Element:
    body = response.read(MOST_BODY_BYTES + 1)
    # What takes long is begun with white space, so that the connection does not look dead.
    body = body.lstrip()
    if len(body) > MOST_BODY_BYTES or b"<!DOCTYPE" in body:
        raise StoreAnswerWrong("the store answered a write with what is not S3's XML")
    try:
        return ElementTree.fromstring(_CONTROL.sub(b"?", body))
    except ElementTree.ParseError as error:
        raise StoreAnswerWrong(
            f"the store answered a write with what is not XML: {error}",
            hint="check that endpoint_url leads to an S3 store",
        ) from None


def _fault(response: http.client.HTTPResponse, code: str, message: str) -> Fault:
    headers = response.headers
    # 500, as it is when S3 knows it in time.
    return Fault(500, code or None, message, False, None, headers.get("Date"), None)


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]
