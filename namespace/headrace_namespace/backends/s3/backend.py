"""S3 and the stores that speak like it: `s3://bucket/prefix`.

botocore brings credentials and signatures (`signing.py`), the bytes go over plain sockets into
the caller's memory (`http.py`): measured, that is twice s3fs at a third of its CPU. HEAD answers
`stat`, ListObjectsV2 lists, GET with If-Match reads. Proxies are not supported.
"""

from __future__ import annotations

import http.client
import importlib.util
import re
from collections.abc import Mapping, Sequence

from headrace_namespace.backends.protocol import (
    BackendContext,
    Expected,
    Folder,
    Listed,
    ListPage,
)
from headrace_namespace.backends.s3.address import check_key, store_host
from headrace_namespace.backends.s3.answers import check_range, tag_of, version_of
from headrace_namespace.backends.s3.client import S3Client
from headrace_namespace.backends.s3.errors import Fault
from headrace_namespace.backends.s3.folders import S3Folders
from headrace_namespace.backends.s3.listing import (
    ListedObject,
    ListingPage,
    Progress,
    read_listing,
    shadows_after,
)
from headrace_namespace.backends.s3.multipart import S3Upload
from headrace_namespace.backends.s3.options import S3Options, read_s3_options
from headrace_namespace.backends.s3.writing import MOST_COPIED, S3Writer
from headrace_namespace.clock import Clock
from headrace_namespace.config import Table
from headrace_namespace.errors import (
    HeadraceError,
    InvalidPath,
    MountEmpty,
    NameTooLong,
    NotFolder,
    NotFound,
    StoreAnswerWrong,
    StoreMissing,
    StoreUnavailable,
    VersionGone,
)
from headrace_namespace.identity import ObjectRef, ObjectVersion
from headrace_namespace.path import can_name

#: S3's own limit.
PAGE_KEYS = 1000
#: What AWS is called in the names of stores.
AWS_HOSTS = ("aws", "aws-cn")

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,254}")


def open_s3(url: str, options: Table, context: BackendContext) -> S3Backend:
    """The store behind `s3://bucket/prefix`; no network is touched.

    Raises ConfigError for a wrong URL or wrong options, ModuleNotFoundError without botocore.
    """
    if importlib.util.find_spec("botocore") is None:
        raise ModuleNotFoundError("No module named 'botocore'", name="botocore")
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    if "@" in bucket:
        raise options.error_beside(
            "url",
            "an s3:// URL cannot hold credentials",
            "name environment variables in the options: key_env, secret_env",
        )
    if not url.startswith("s3://") or not _BUCKET.fullmatch(bucket):
        raise options.error_beside(
            "url", f"{url!r} names no bucket", "write it like s3://bucket/prefix"
        )
    prefix = prefix.strip("/")
    if any(part in (".", "..") for part in prefix.split("/")):
        raise options.error_beside("url", f"{url!r}: '.' and '..' mean nothing in a bucket")
    try:
        check_key(prefix)
    except (InvalidPath, NameTooLong) as error:
        raise options.error_beside("url", error.message) from None
    return S3Backend(bucket, prefix, read_s3_options(options, context), context.clock)


class S3Backend:
    """One bucket, or what lies below a prefix of it. Thread-safe; makes each request once."""

    def __init__(self, bucket: str, prefix: str, options: S3Options, clock: Clock) -> None:
        self._bucket = bucket
        self._prefix = prefix
        self._options = options
        self._store = f"s3://{store_host(options.endpoint, options.region)}/{bucket}"
        where = options.endpoint if options.endpoint is not None else "AWS"
        self._name = f"s3://{bucket}{'/' if prefix else ''}{prefix} at {where}"
        self._clock = clock
        self._client = S3Client(bucket, options, clock, self._name)
        self._writer = S3Writer(
            self._client,
            bucket,
            self._name,
            self._head,
            trusted=store_host(options.endpoint, options.region) in AWS_HOSTS,
        )
        self._folders = S3Folders(self._writer, self.stat, self._list)

    @property
    def name(self) -> str:
        """The bucket, the prefix and the endpoint."""
        return self._name

    @property
    def stat_is_cheap(self) -> bool:
        """A request over the network never is."""
        return False

    @property
    def max_attempts(self) -> int:
        """How often the mount's options want a request made at most."""
        return self._options.max_attempts

    @property
    def max_connections(self) -> int:
        """How many requests the mount's options allow at once."""
        return self._options.max_connections

    def ref(self, key: str) -> ObjectRef:
        """`s3://host/bucket` and the full key; AWS's many hosts are one store, `aws`."""
        return ObjectRef(self._store, self._full(key))

    @property
    def space(self) -> str:
        """The bucket, whatever the endpoint."""
        return f"s3:{self._bucket}"

    def stat(self, key: str) -> ObjectVersion | Folder | None:
        """What HEAD shows; where it shows nothing, a folder if any key begins with `key/`."""
        full = self._full(key)
        check_key(full)
        if full:
            version = self._head(full)
            if version is not None:
                return version
        page = self._list({"prefix": f"{full}/" if full else "", "max-keys": "1"})
        if page.objects or page.prefixes or page.next_token or not full:
            return Folder()
        if not key:
            raise self._nothing_mounted()
        return None

    def shows(self, key: str, version: ObjectVersion) -> bool:
        """False: no look at S3 is cheap."""
        return False

    def shown_by(self, key: str) -> None:
        """None: it is no file of this machine."""

    def trail(self, key: str) -> tuple[ObjectRef, ...]:
        """The ref alone: S3 has no links."""
        return (self.ref(key),)

    def list_page(self, ref: ObjectRef, token: str | None) -> ListPage:
        """Up to 1,000 keys in S3's order; an object hides a folder of the same name."""
        full = ref.key
        check_key(full)
        folder = f"{full}/" if full else ""
        progress = Progress.parse(token)
        query = {"prefix": folder, "delimiter": "/", "max-keys": str(PAGE_KEYS)}
        if progress.continuation is not None:
            query["continuation-token"] = progress.continuation
        page = self._list(query)
        seen = progress.seen or bool(page.objects or page.prefixes)
        if page.next_token is None and not seen and full:
            raise self._not_listed(full)
        objects = {
            item.key[len(folder) :]: item for item in page.objects if item.key.startswith(folder)
        }
        objects.pop("", None)  # the folder's own marker
        given = objects.keys() | progress.shadows
        prefixes = {
            prefix[len(folder) : -1] for prefix in page.prefixes if prefix.startswith(folder)
        }
        folders, hidden = prefixes - given, len(prefixes & given)
        children = [self._listed(name, item) for name, item in objects.items() if can_name(name)]
        children += [Listed(name, None) for name in sorted(folders) if can_name(name)]
        left_out = len(objects) + len(folders) - len(children)
        if page.next_token is None:
            return ListPage(tuple(children), None, left_out, hidden)
        names = [*objects, *(prefix[len(folder) :] for prefix in page.prefixes)]
        last = max(names, key=str.encode, default="")
        after = Progress(page.next_token, shadows_after(last, given), seen)
        return ListPage(tuple(children), after.token(), left_out, hidden)

    def read_into(self, version: ObjectVersion, start: int, target: memoryview) -> None:
        """GET exactly this version's bytes into `target`; an empty range asks nobody."""
        target = target.cast("B")
        stop = start + len(target)
        if start == stop:
            return
        headers: dict[str, str] = {}
        if version.strong:
            headers["If-Match"] = f'"{version.tag}"'
        if (start, stop) != (0, version.size):
            headers["Range"] = f"bytes={start}-{stop - 1}"
        query = {"versionId": version.version_id} if version.version_id else {}

        def fill(response: http.client.HTTPResponse) -> None:
            check_range(response.status, response.headers, version, start, stop)
            _fill(response, target)

        try:
            self._client.ask("GET", version.ref.key, query, headers, fill)
        except Fault as fault:
            error = self._client.error(fault)
            if fault.status in (412, 416) or (
                fault.status == 404 and isinstance(error, NotFound) and fault.code != "NoSuchBucket"
            ):
                what = "deleted" if fault.status == 404 else "replaced"
                raise VersionGone(
                    f"the object was {what} since it was opened",
                    store=self._name,
                    hint="open it again",
                ) from fault
            raise error from fault

    def put(self, ref: ObjectRef, data: memoryview, expected: Expected) -> ObjectVersion:
        """One PUT with its MD5. How near a condition comes to being atomic: `conditions.py`."""
        return self._writer.put(ref, data, expected)

    def begin_upload(
        self, ref: ObjectRef, expected: Expected, base: ObjectVersion | None = None
    ) -> S3Upload:
        """A multipart upload of at most 492 GiB, and of what it begins with."""
        return S3Upload(self._writer, self._clock, ref, expected, base)

    def copy(self, source: ObjectVersion, ref: ObjectRef, expected: Expected) -> ObjectVersion:
        """One CopyObject, or UploadPartCopy part by part where the object is large.

        A store that is told which version to copy and copies another (Ceph) is found out by looks
        before and after: VersionGone may then mean that the newer bytes were copied.
        """
        if source.size <= MOST_COPIED:
            return self._writer.copy(source, ref, expected)
        upload = S3Upload(self._writer, self._clock, ref, expected, source)
        try:
            return upload.commit(0)
        finally:
            upload.abort()

    def rename(self, key: str, to: ObjectRef) -> bool:
        """False: S3 has no such request."""
        return False

    def delete(self, keys: Sequence[str]) -> Mapping[str, HeadraceError]:
        """One request for all; one each for names that XML cannot hold. In a bucket that keeps
        versions, the old ones stay."""
        return self._writer.delete({key: self._full(key) for key in keys})

    def make_folder(self, key: str) -> None:
        """Put a marker: an empty object of the name `key/`, as other tools do."""
        self._folders.make(key, self.ref(key))

    def remove_folder(self, key: str) -> None:
        """Delete the marker, where there is nothing else below."""
        self._folders.remove(key, self.ref(key))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _full(self, key: str) -> str:
        return f"{self._prefix}/{key}" if self._prefix and key else self._prefix or key

    def _head(self, full: str) -> ObjectVersion | None:
        ref = ObjectRef(self._store, full)
        try:
            return self._client.ask("HEAD", full, {}, {}, lambda got: version_of(ref, got.headers))
        except Fault as fault:
            if fault.status == 404:
                return None
            if fault.status in (408, 429) or fault.status >= 500:
                raise self._client.error(fault) from fault
            refused = fault
        # A HEAD's answer has no body, so it does not say why; a GET's does.
        try:
            self._client.ask("GET", full, {}, {"Range": "bytes=0-0"}, lambda got: got.read(1))
        except Fault as fault:
            if fault.status == 404 and fault.code in ("NoSuchKey", None) and not fault.html:
                return None
            if fault.status != 416:  # an empty object has no first byte
                raise self._client.error(fault) from fault
        raise self._client.error(refused) from refused

    def _list(self, query: Mapping[str, str]) -> ListingPage:
        asked = {"list-type": "2", "encoding-type": "url", **query}
        try:
            return self._client.ask("GET", "", asked, {}, read_listing)
        except Fault as fault:
            error = self._client.error(fault)
            if isinstance(error, NotFound) and not isinstance(error, StoreMissing):
                # A store that has the bucket lists it, empty as it may be.
                raise StoreMissing(
                    f"there is no S3 bucket {self._bucket!r} at {self._options.endpoint or 'AWS'}: "
                    f"asked to list it, it answered {fault.status}",
                    store=self._name,
                    hint="check endpoint_url, also its path, and the bucket in the mount's url",
                ) from fault
            raise error from fault

    def _listed(self, name: str, item: ListedObject) -> Listed:
        mtime = item.mtime
        text, strong = tag_of(item.etag, mtime, item.size) or ("", False)
        ref = ObjectRef(self._store, item.key)
        version = ObjectVersion(ref, text, item.size, strong, mtime=mtime)
        return Listed(name, version, settled=strong)

    def _not_listed(self, full: str) -> HeadraceError:
        if self._head(full) is not None:
            return NotFolder(f"{full} is an object", store=self._name)
        if full == self._prefix:
            return self._nothing_mounted()
        return NotFound(f"nothing lies below {full}/", store=self._name)

    def _nothing_mounted(self) -> MountEmpty:
        return MountEmpty(
            f"the bucket {self._bucket!r} has nothing at {self._prefix!r} or below it",
            store=self._name,
            hint="check the prefix in the mount's url; a folder of S3 exists by its objects",
        )


def _fill(response: http.client.HTTPResponse, target: memoryview) -> None:
    filled = 0
    while filled < len(target):
        count = response.readinto(target[filled:])
        if not count:
            raise StoreUnavailable(f"the answer ended after {filled} of {len(target)} bytes")
        filled += count
    # An answer in chunks states no length before: what follows would make it too long.
    if not response.isclosed() and response.read(1):
        raise StoreAnswerWrong(f"the answer is longer than the {len(target)} bytes asked for")
