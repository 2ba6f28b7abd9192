"""Whether S3's answer is what was asked for: pure checks, so that no other bytes are ever kept.

Some stores and proxies ignore If-Match, ignore ranges, or answer a range with 200; each answer is
trusted only for what its headers prove.
"""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime
from http.client import HTTPMessage

from headrace_namespace.errors import StoreAnswerWrong, VersionGone
from headrace_namespace.identity import ObjectRef, ObjectVersion

_CONTENT_RANGE = re.compile(r"bytes (\d{1,20})-(\d{1,20})/(\d{1,20})")


def tag_of(etag: str | None, mtime: float | None, size: int) -> tuple[str, bool] | None:
    """The version's tag and whether it is strong; None where the store shows nothing to go by."""
    if etag:
        if etag.startswith("W/"):
            return etag, False
        return etag.strip('"'), True
    if mtime is None:
        return None
    # In whole seconds: a listing shows milliseconds, the Last-Modified header does not.
    return f"modified-{int(mtime)}-{size}", False


def version_of(ref: ObjectRef, headers: HTTPMessage) -> ObjectVersion:
    """The version that a HEAD answer shows. Raises StoreAnswerWrong where it shows none."""
    length = headers.get("Content-Length") or ""
    if not length.isdigit():
        raise StoreAnswerWrong("the store does not say how long the object is")
    mtime = _mtime(headers)
    tag = tag_of(headers.get("ETag"), mtime, int(length))
    if tag is None:
        raise StoreAnswerWrong("the store shows neither ETag nor Last-Modified of the object")
    version_id = headers.get("x-amz-version-id")
    return ObjectVersion(
        ref,
        tag[0],
        int(length),
        tag[1],
        mtime=mtime,
        version_id=None if version_id in (None, "", "null") else version_id,
    )


def written_version(
    ref: ObjectRef, headers: HTTPMessage, etag: str | None, expected_tag: str, size: int
) -> ObjectVersion:
    """The version that a write's answer gives; `expected_tag` where it shows no ETag.

    Asking for it afterwards could show what another has written since. The time is the answer's.
    """
    tag = tag_of(etag, None, size) or (expected_tag, True)
    version_id = headers.get("x-amz-version-id")
    return ObjectVersion(
        ref,
        tag[0],
        size,
        tag[1],
        mtime=_time(headers.get("Date")),
        version_id=None if version_id in (None, "", "null") else version_id,
    )


def check_range(
    status: int, headers: HTTPMessage, version: ObjectVersion, start: int, stop: int
) -> None:
    """Whether an answer holds exactly the bytes `start` to `stop` (exclusive) of `version`.

    Raises VersionGone where it is another version, StoreAnswerWrong where it proves nothing.
    """
    tag = tag_of(headers.get("ETag"), _mtime(headers), version.size)
    if tag is None or (version.strong and not headers.get("ETag")):
        raise StoreAnswerWrong("the store does not say which version its bytes are of")
    if tag[0] != version.tag:
        raise VersionGone("the object was replaced since it was opened", hint="open it again")
    content_range = headers.get("Content-Range")
    if content_range is not None:
        found = _CONTENT_RANGE.fullmatch(content_range.strip())
        asked = (start, stop - 1, version.size)
        if found is None or tuple(map(int, found.groups())) != asked:
            raise StoreAnswerWrong(
                f"the store was asked for bytes {start}-{stop - 1}/{version.size} "
                f"and answered {content_range!r}"
            )
    elif status == 206 or (start, stop) != (0, version.size):
        raise StoreAnswerWrong("the store ignored the range that it was asked for")
    length = headers.get("Content-Length")
    if length is not None and length.strip() != str(stop - start):
        raise StoreAnswerWrong(f"the store sends {length} bytes where {stop - start} were asked")


def _mtime(headers: HTTPMessage) -> float | None:
    return _time(headers.get("Last-Modified"))


def _time(text: str | None) -> float | None:
    try:
        return parsedate_to_datetime(text or "").timestamp()
    except ValueError:
        return None
