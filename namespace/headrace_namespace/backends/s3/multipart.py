"""Writing a large object of S3 in parts (a multipart upload), and beginning it with a copy.

The parts of an upload that is neither completed nor aborted stay at the store, unseen and paid for:
a killed process leaves them, and an answer lost at the beginning. The usual remedy is a lifecycle
rule of the bucket (AbortIncompleteMultipartUpload).
"""

from __future__ import annotations

import hashlib
import http.client
import logging
import threading
from collections.abc import Callable, Mapping
from typing import TypeVar

from headrace_namespace.backends.protocol import Expected
from headrace_namespace.backends.s3.answers import written_version
from headrace_namespace.backends.s3.client import NO_BYTES, Body
from headrace_namespace.backends.s3.documents import completion, read_fields
from headrace_namespace.backends.s3.errors import Fault
from headrace_namespace.backends.s3.writing import S3Writer
from headrace_namespace.backends.slow_down import SlowDown
from headrace_namespace.clock import Clock
from headrace_namespace.errors import (
    AlreadyExists,
    HeadraceError,
    StoreAnswerWrong,
    StoreFull,
    StoreUnavailable,
    WriteConflict,
)
from headrace_namespace.identity import ObjectRef, ObjectVersion

#: S3's own limit.
MOST_PARTS = 10_000
#: Parts of 8 MiB keep memory small and are enough for a stream; they double after each 1,000, up to
#: 64 MiB, so that 10,000 of them make 492 GiB.
FIRST_PART_BYTES = 8 << 20
LARGEST_PART_BYTES = 64 << 20
PARTS_OF_A_SIZE = 1000
#: Four parts at once fill 1 Gbit/s at any distance, and hold at most 256 MiB.
PARALLEL_PARTS = 4
#: What is copied by one request; a store answers within its time, for it copies 100 MB/s at least.
COPY_BYTES = 256 << 20
#: So that most parts are left for what is written after the copy, however large it is.
MOST_COPY_PARTS = 2000
#: An upload that cannot be aborted in so many attempts stays to the bucket's lifecycle.
ABORT_ATTEMPTS = 3
ABORT_PAUSE_SECONDS = 0.2

_T = TypeVar("_T")

_log = logging.getLogger(__name__)


def part_bytes(index: int) -> int:
    """How long part `index` is."""
    return min(LARGEST_PART_BYTES, FIRST_PART_BYTES << min(index // PARTS_OF_A_SIZE, 8))


def copy_ranges(size: int) -> list[tuple[int, int]]:
    """Start and stop of the parts in which `size` bytes are copied, of nearly equal length."""
    count = min(MOST_COPY_PARTS, -(-size // COPY_BYTES))
    bounds = [size * number // count for number in range(count + 1)]
    return list(zip(bounds, bounds[1:], strict=False))


class S3Upload:
    """A multipart upload, begun at the store with its first part."""

    def __init__(
        self,
        writer: S3Writer,
        clock: Clock,
        ref: ObjectRef,
        expected: Expected,
        base: ObjectVersion | None,
    ) -> None:
        writer.check(ref)
        self._writer = writer
        self._clock = clock
        self._ref = ref
        self._expected = expected
        self._lock = threading.Lock()
        self._upload_id: str | None = None
        self._base: list[str] = []
        self._base_bytes = 0
        self._quote_twice = False
        self._etags: dict[int, str] = {}
        self._sizes: dict[int, int] = {}
        # Whether the store's ETags are MD5 sums, so that the object's can be foretold.
        self._sums = True
        # Whether a commit may have been made whose answer was lost.
        self._unsure = False
        self._made: ObjectVersion | None = None
        if base is not None:
            try:
                self._begin_with(base)
            except BaseException:
                self.abort()
                raise

    @property
    def parallel_parts(self) -> int:
        """A few."""
        return PARALLEL_PARTS

    def part_bytes(self, index: int) -> int:
        """8 MiB to begin with, then more, so that S3's 10,000 parts suffice."""
        return part_bytes(index)

    def put_part(self, index: int, data: memoryview) -> None:
        """One request, and before the first one that begins the upload."""
        if len(self._base) + index >= MOST_PARTS:
            raise StoreFull(
                f"{self._ref.key} would have more than the {MOST_PARTS} parts that S3 allows, "
                f"which hold about {self._most_bytes() >> 30} GiB",
                store=self._writer.store,
                hint="write it as several objects",
            )
        body = Body.of(data)
        query = {"partNumber": str(len(self._base) + index + 1), "uploadId": self._begun()}
        etag = self._ask("PUT", query, _etag, body) or body.md5.hex()
        with self._lock:
            self._sums = self._sums and etag == body.md5.hex()
            self._etags[index] = etag
            self._sizes[index] = len(body.data)

    def commit(self, parts: int) -> ObjectVersion:
        """CompleteMultipartUpload under the condition; nothing at all is put as an empty object.

        Known as ours after a lost answer by the ETag that its parts make.
        """
        if self._made is not None:
            return self._made
        etags = [*self._base, *(self._etags[index] for index in range(parts))]
        size = self._base_bytes + sum(self._sizes[index] for index in range(parts))
        tag = _tag_of_parts(etags)
        try:
            if etags:
                made = self._complete(etags, tag, size)
            else:
                tag = NO_BYTES.md5.hex()
                made = self._writer.put(self._ref, b"", self._expected)
        except (WriteConflict, AlreadyExists) as conflict:
            if not self._unsure:
                self.abort()
                raise
            made = self._ours(conflict.found, tag, size, conflict)
        except HeadraceError as error:
            if (
                self._unsure
                and isinstance(error.__cause__, Fault)
                and error.__cause__.status == 404
            ):
                # The upload is over, by our own commit or another's doing.
                made = self._ours(self._writer.look(self._ref.key), tag, size, error)
            else:
                lost = error.retriable and not isinstance(error, SlowDown)
                self._unsure = self._unsure or lost
                raise
        self._made = made
        return made

    def abort(self) -> None:
        """Let the store forget the parts, trying a few times; what stays is logged."""
        upload_id, self._upload_id = self._upload_id, None
        if upload_id is None or self._made is not None:
            return
        for attempt in range(ABORT_ATTEMPTS):
            if attempt:
                self._clock.sleep(ABORT_PAUSE_SECONDS * attempt)
            try:
                self._writer.client.ask(
                    "DELETE",
                    self._ref.key,
                    {"uploadId": upload_id},
                    {},
                    http.client.HTTPResponse.read,
                )
                return
            except Fault as fault:
                if fault.status == 404:
                    return
            except HeadraceError:
                continue
        _log.warning(
            "%s: the parts of an upload could not be deleted; they stay until the bucket's "
            "lifecycle ends it",
            self._writer.store,
        )

    def _begin_with(self, base: ObjectVersion) -> None:
        if not self._writer.is_pinned(base):
            self._writer.check_source(base)
        for start, stop in copy_ranges(base.size):
            try:
                etag = self._copy_part(base, start, stop)
            except Fault as fault:
                self._writer.check_copied(base, fault)
                if fault.status != 404 or "%" not in base.ref.key or self._quote_twice:
                    raise self._writer.client.error(fault) from fault
                # The source is there. Ceph (16) unescapes its name twice where a range is given.
                self._quote_twice = True
                etag = self._copy_again(base, start, stop)
            self._base.append(etag)
        self._base_bytes = base.size
        if not self._writer.is_pinned(base):
            self._writer.check_source(base)

    def _copy_part(self, base: ObjectVersion, start: int, stop: int) -> str:
        headers = self._writer.source_headers(base, twice=self._quote_twice)
        headers["x-amz-copy-source-range"] = f"bytes={start}-{stop - 1}"
        query = {"partNumber": str(len(self._base) + 1), "uploadId": self._begun()}
        return self._writer.client.ask(
            "PUT", self._ref.key, query, headers, _copied_etag, body=NO_BYTES
        )

    def _copy_again(self, base: ObjectVersion, start: int, stop: int) -> str:
        try:
            return self._copy_part(base, start, stop)
        except Fault as fault:
            raise self._writer.client.error(fault) from fault

    def _begun(self) -> str:
        with self._lock:
            if self._upload_id is None:
                answer = self._ask("POST", {"uploads": ""}, read_fields, NO_BYTES)
                upload_id = answer.get("UploadId")
                if not upload_id:
                    raise StoreAnswerWrong(
                        "the store began an upload without giving it a name",
                        store=self._writer.store,
                    )
                self._upload_id = upload_id
            return self._upload_id

    def _complete(self, etags: list[str], tag: str, size: int) -> ObjectVersion:
        body = Body.of(completion(etags))
        query = {"uploadId": self._begun()}

        def send(condition: Mapping[str, str]) -> ObjectVersion:
            def take(response: http.client.HTTPResponse) -> ObjectVersion:
                etag = read_fields(response).get("ETag") or None
                return written_version(self._ref, response.headers, etag, tag, size)

            return self._writer.client.ask(
                "POST", self._ref.key, query, condition, take, body=body, repeatable=False
            )

        return self._writer.conditions.write(self._ref, self._expected, send)

    def _ours(
        self, found: ObjectVersion | None, tag: str, size: int, error: HeadraceError
    ) -> ObjectVersion:
        """What is found there, where it is what we sent; else raise what is known."""
        if found is not None and (found.tag, found.size) == (tag, size):
            return found
        if self._sums and isinstance(error, WriteConflict | AlreadyExists):
            self.abort()
            raise error
        unknown = StoreUnavailable(
            f"the answer to the end of the upload of {self._ref.key} was lost, and what is there "
            "now may be ours or another's",
            store=self._writer.store,
            hint="look at it before trying again",
        )
        unknown.retriable = False
        raise unknown from error

    def _ask(
        self,
        method: str,
        query: Mapping[str, str],
        take: Callable[[http.client.HTTPResponse], _T],
        body: Body,
    ) -> _T:
        try:
            return self._writer.client.ask(
                method, self._ref.key, query, {}, take, body=body, repeatable=method == "PUT"
            )
        except Fault as fault:
            raise self._writer.client.error(fault) from fault

    def _most_bytes(self) -> int:
        left = MOST_PARTS - len(self._base)
        return self._base_bytes + sum(part_bytes(index) for index in range(left))


def _etag(response: http.client.HTTPResponse) -> str:
    return (response.headers.get("ETag") or "").strip('"')


def _copied_etag(response: http.client.HTTPResponse) -> str:
    etag = read_fields(response).get("ETag", "").strip('"')
    if not etag:
        raise StoreAnswerWrong("the store copied a part without saying which")
    return etag


def _tag_of_parts(etags: list[str]) -> str:
    """The ETag that S3 gives an object of parts: the MD5 of their MD5s, and how many they are.

    Where a store's ETags are no MD5s, this is no version that it ever shows.
    """
    try:
        raw = b"".join(bytes.fromhex(etag) for etag in etags)
    except ValueError:
        raw = "".join(etags).encode()
    return f"{hashlib.md5(raw, usedforsecurity=False).hexdigest()}-{len(etags)}"
