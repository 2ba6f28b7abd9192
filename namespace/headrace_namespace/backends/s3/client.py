"""Asking S3: which host, which signature, which region, and what its refusals mean."""

from __future__ import annotations

import base64
import hashlib
import http.client
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from headrace_namespace.backends.s3.address import BucketAddress, bucket_address
from headrace_namespace.backends.s3.errors import DELETES, READS, WRITES, Fault, read_fault
from headrace_namespace.backends.s3.options import S3Options
from headrace_namespace.clock import Clock
from headrace_namespace.errors import AccessRefused, HeadraceError
from headrace_namespace.http_pool import HttpPool, PoolHints

if TYPE_CHECKING:
    from headrace_namespace.backends.s3.signing import Signer

_T = TypeVar("_T")


_HINTS = PoolHints(
    address="check endpoint_url, region and the network",
    refused="check endpoint_url, and whether it runs",
    trust="for a private authority give its file as ca_bundle",
    no_tls="does the endpoint want http:// instead of https://?",
    no_http="check the port, and http:// against https://",
    busy="raise max_connections",
)

#: The statuses of a success.
_DONE = (200, 204, 206)


@dataclass(frozen=True, slots=True)
class Body:
    """What a request sends, and its MD5, by which the store checks what arrived."""

    data: memoryview
    md5: bytes

    @classmethod
    def of(cls, data: bytes | memoryview) -> Body:
        """The bytes with their sum."""
        view = memoryview(data).cast("B")
        return cls(view, hashlib.md5(view, usedforsecurity=False).digest())


#: Of a write that sends nothing. Its MD5 is not told: Ceph compares it with the bytes of a copy.
NO_BYTES = Body.of(b"")


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    key: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Body | None
    repeatable: bool

    def needs(self) -> str:
        """The permissions that it takes, for the hint of a refusal."""
        if self.method == "DELETE" or "delete" in self.query:
            return DELETES
        return WRITES if self.body is not None else READS


@dataclass(frozen=True, slots=True)
class _Route:
    """Where requests go now: the region that they are signed for, the address, its connections."""

    region: str
    address: BucketAddress
    pool: HttpPool


class S3Client:
    """Requests for one bucket; `store` names it in errors. Thread-safe; touches no network until
    it is asked."""

    def __init__(self, bucket: str, options: S3Options, clock: Clock, store: str) -> None:
        self._bucket = bucket
        self._options = options
        self._clock = clock
        self._store = store
        self._lock = threading.Lock()
        self._signer: Signer | None = None
        self._route: _Route | None = None

    def ask(
        self,
        method: str,
        key: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        take: Callable[[http.client.HTTPResponse], _T],
        *,
        body: Body | None = None,
        repeatable: bool = True,
    ) -> _T:
        """What `take` makes of the answer to a request for `key` (empty: for the bucket).

        Asks once, or twice where the bucket turns out to lie in another region, which is then
        remembered. A write gives a `body`, if only `NO_BYTES`; it is `repeatable` where it may be
        made twice without harm. Raises Fault for what S3 refuses, and headrace's errors for the
        rest."""
        route = self._route or self._first_route()
        request = _Request(method, key, query, headers, body, repeatable)
        try:
            try:
                return self._ask_at(route, request, take)
            except Fault as fault:
                region = fault.region_instead_of(route.region)
                if region is None:
                    raise
            return self._ask_at(self._move(route, region), request, take)
        except HeadraceError as error:
            raise error.at(store=self._store) from error.__cause__

    def error(self, fault: Fault) -> HeadraceError:
        """What a refusal means, as an error that names the store."""
        route = self._route
        where = route.address.endpoint if route is not None else self._options.endpoint
        error = fault.error(
            bucket=self._bucket,
            endpoint=str(where),
            region=route.region if route is not None else "",
            now=self._clock.now(),
        )
        if self._options.anon and isinstance(error, AccessRefused):
            error.hint = "the mount is anonymous (anon = true); the bucket may want credentials"
        return error.at(store=self._store)

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            route, self._route = self._route, None
        if route is not None:
            route.pool.close()

    def _ask_at(
        self, route: _Route, request: _Request, take: Callable[[http.client.HTTPResponse], _T]
    ) -> _T:
        target = route.address.target(request.key, request.query)
        endpoint = route.address.endpoint
        sent = {"Host": endpoint.authority, "User-Agent": "headrace", **request.headers}
        # Bytes are kept as they are stored: nobody on the way may compress them.
        sent["Accept-Encoding"] = "identity"
        body = request.body
        if body is not None:
            sent["Content-Length"] = str(len(body.data))
        if body is not None and body is not NO_BYTES:
            sent["Content-MD5"] = base64.b64encode(body.md5).decode()
        if self._signer is not None:
            url = f"{endpoint.scheme}://{endpoint.authority}{target}"
            payload_hash = _payload_hash(endpoint.scheme, body)
            sent |= self._signer.signed(request.method, url, sent, route.region, payload_hash)
        data = body.data if body is not None else None
        with route.pool.exchange(
            request.method, target, sent, data, repeatable=request.repeatable
        ) as response:
            if response.status in _DONE:
                return take(response)
            fault = read_fault(response)
        fault.needs = request.needs()
        raise fault

    def _first_route(self) -> _Route:
        with self._lock:
            if self._route is None:
                region = self._options.region or "us-east-1"
                if self._options.endpoint is None or not self._options.anon:
                    # Imported with the first request only: botocore takes 150 ms.
                    from headrace_namespace.backends.s3.signing import Signer

                    self._signer = Signer(self._options)
                    region = self._signer.region()
                self._route = self._route_to(region)
            return self._route

    def _move(self, old: _Route, region: str) -> _Route:
        with self._lock:
            if self._route is not old and self._route is not None:
                return self._route  # another thread has moved already
            new = self._route_to(region)
            # Requests under way on the old pool end there; its connections close with them.
            self._route = new
        if new.pool is not old.pool:
            old.pool.close()
        return new

    def _route_to(self, region: str) -> _Route:
        options = self._options
        endpoint = options.endpoint
        if endpoint is None:
            assert self._signer is not None
            endpoint = self._signer.endpoint(region)
        elif self._route is not None:
            return _Route(region, self._route.address, self._route.pool)
        custom = options.endpoint is not None
        address = bucket_address(endpoint, self._bucket, options.style, custom=custom)
        pool = HttpPool(
            address.endpoint,
            connect_seconds=options.connect_seconds,
            read_seconds=options.read_seconds,
            tls=(
                ssl.create_default_context(cafile=options.ca_bundle)
                if address.endpoint.scheme == "https"
                else None
            ),
            most_connections=options.max_connections,
            hints=_HINTS,
        )
        return _Route(region, address, pool)


def _payload_hash(scheme: str, body: Body | None) -> str:
    """What the signature says of the body. Over TLS, which guards it, the signed MD5 is enough:
    SHA-256 would take as long again."""
    if body is None:
        return hashlib.sha256(b"").hexdigest()
    return "UNSIGNED-PAYLOAD" if scheme == "https" else hashlib.sha256(body.data).hexdigest()
