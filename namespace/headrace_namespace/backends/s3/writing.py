"""Writing whole objects of S3: put, copy, delete, and the markers that stand for empty folders.

A condition is kept as `conditions.py` says. Every body goes with its MD5, so that the store keeps
only what arrived whole.
"""

from __future__ import annotations

import http.client
from collections.abc import Callable, Mapping
from urllib.parse import quote

from headrace_namespace.backends.protocol import Expected, There
from headrace_namespace.backends.s3.address import check_key, quote_key, quote_query
from headrace_namespace.backends.s3.answers import written_version
from headrace_namespace.backends.s3.client import NO_BYTES, Body, S3Client
from headrace_namespace.backends.s3.conditions import Conditions, conflict_of
from headrace_namespace.backends.s3.documents import (
    deletion,
    fits_xml,
    read_fields,
    read_not_deleted,
)
from headrace_namespace.backends.s3.errors import DELETES, Fault
from headrace_namespace.errors import HeadraceError, IsFolder, StoreAnswerWrong, VersionGone
from headrace_namespace.identity import ObjectRef, ObjectVersion

#: S3's own limit for a copy in one request.
MOST_COPIED = 5 << 30


class S3Writer:
    """Writes to one bucket. `look` shows what a full key is now; `trusted` is whether the store
    keeps every condition that it is told. Thread-safe."""

    def __init__(
        self,
        client: S3Client,
        bucket: str,
        store: str,
        look: Callable[[str], ObjectVersion | None],
        *,
        trusted: bool,
    ) -> None:
        self.client = client
        self.store = store
        self.look = look
        self.conditions = Conditions(client, look, store, trusted=trusted)
        self._bucket = bucket
        self._trusted = trusted

    def check(self, ref: ObjectRef) -> None:
        """Raise where no object can have this key."""
        check_key(ref.key)
        if not ref.key:
            raise IsFolder("the bucket itself is a folder", store=self.store)

    def put(self, ref: ObjectRef, data: bytes | memoryview, expected: Expected) -> ObjectVersion:
        """One PUT."""
        self.check(ref)
        body = Body.of(data)

        def send(condition: Mapping[str, str]) -> ObjectVersion:
            def take(response: http.client.HTTPResponse) -> ObjectVersion:
                headers = response.headers
                return written_version(
                    ref, headers, headers.get("ETag"), body.md5.hex(), len(body.data)
                )

            return self.client.ask(
                "PUT", ref.key, {}, condition, take, body=body, repeatable=not condition
            )

        return self.conditions.write(ref, expected, send)

    def copy(self, source: ObjectVersion, ref: ObjectRef, expected: Expected) -> ObjectVersion:
        """One CopyObject, of at most `MOST_COPIED` bytes."""
        self.check(ref)
        before = None if self.is_pinned(source) else self.check_source(source)
        if ref == source.ref and before is None:
            before = self.look(ref.key)
        if ref == source.ref and before == source:
            # S3 refuses a copy onto itself, which would change nothing.
            if expected is not There.ANYTHING and expected != source:
                raise conflict_of(ref, expected, source, self.store)
            return source

        def send(condition: Mapping[str, str]) -> ObjectVersion:
            def take(response: http.client.HTTPResponse) -> ObjectVersion:
                etag = read_fields(response).get("ETag")
                if not etag:
                    raise StoreAnswerWrong("the store does not say which version the copy is")
                return written_version(ref, response.headers, etag, "", source.size)

            headers = {**self.source_headers(source), **condition}
            try:
                return self.client.ask(
                    "PUT", ref.key, {}, headers, take, body=NO_BYTES, repeatable=not condition
                )
            except Fault as fault:
                self.check_copied(source, fault)
                raise

        made = self.conditions.write(ref, expected, send)
        # An ETag that a copy keeps proves whose bytes it has.
        if made.tag != source.tag and not self.is_pinned(source):
            self.check_source(source)
        return made

    def delete(self, keys: Mapping[str, str]) -> Mapping[str, HeadraceError]:
        """Delete full keys, given by the mount's keys; what went wrong by the mount's keys."""
        wrong: dict[str, HeadraceError] = {}
        together: dict[str, str] = {}
        singly: dict[str, str] = {}
        for key, full in keys.items():
            try:
                self.check(ObjectRef("", full))
            except HeadraceError as error:
                wrong[key] = error
            else:
                (together if fits_xml(full) else singly)[full] = key
        if together and not self._delete_together(together, wrong):
            singly |= together
        for full, key in singly.items():
            try:
                self.delete_one(full)
            except HeadraceError as error:
                wrong[key] = error
        return wrong

    def delete_one(self, full: str) -> None:
        """One DELETE; what was not there counts as deleted."""
        try:
            self.client.ask("DELETE", full, {}, {}, http.client.HTTPResponse.read)
        except Fault as fault:
            if fault.status != 404 or fault.code not in ("NoSuchKey", None) or fault.html:
                raise self.client.error(fault) from fault

    def source_headers(self, source: ObjectVersion, *, twice: bool = False) -> dict[str, str]:
        """The headers that name what is copied, and its version; `twice` escapes the name for a
        store that will unescape it twice."""
        key = quote_key(source.ref.key)
        name = f"/{quote(self._bucket, safe='')}/{quote_key(key) if twice else key}"
        if source.version_id:
            name += f"?{quote_query({'versionId': source.version_id})}"
        headers = {"x-amz-copy-source": name}
        if source.strong:
            headers["x-amz-copy-source-if-match"] = f'"{source.tag}"'
        return headers

    def check_source(self, source: ObjectVersion) -> ObjectVersion:
        """What is copied, if it is that version now. Raises VersionGone.

        Ceph does not know the header that says so with the copy.
        """
        found = self.look(source.ref.key)
        if found != source:
            raise self._gone(source)
        return source

    def check_copied(self, source: ObjectVersion, fault: Fault) -> None:
        """Raise VersionGone where a copy was refused because its source is not that version."""
        if fault.code == "NoSuchBucket" or fault.status not in (404, 412, 416):
            return
        found = self.look(source.ref.key)
        if found is None or found != source or source.version_id not in (None, found.version_id):
            raise self._gone(source) from fault

    def is_pinned(self, source: ObjectVersion) -> bool:
        """Whether the request for a copy itself says which version, and the store heeds it."""
        return source.version_id is not None or (self._trusted and source.strong)

    def _delete_together(
        self, together: Mapping[str, str], wrong: dict[str, HeadraceError]
    ) -> bool:
        """Delete by one request; False where the store has no such request."""
        try:
            refused = self.client.ask(
                "POST", "", {"delete": ""}, {}, read_not_deleted, body=Body.of(deletion(together))
            )
        except Fault as fault:
            if fault.status == 501:
                return False
            raise self.client.error(fault) from fault
        for item in refused:
            if item.code == "NoSuchKey":
                continue
            told = Fault(200, item.code or None, item.message, False, None, None, None, DELETES)
            wrong[together.get(item.key, item.key)] = self.client.error(told)
        return True

    def _gone(self, version: ObjectVersion) -> VersionGone:
        return VersionGone(
            f"{version.ref.key} was replaced or deleted since it was opened",
            store=self.store,
            hint="open it again",
        )
