"""Asking a node of another host: its connections, what each answer means, and when to try again."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import TypeVar

from headrace_cache.access import NodeAddress
from headrace_cache.wire import changes as c
from headrace_cache.wire import messages as m
from headrace_cache.wire import routes
from headrace_cache.wire.certificates import client_context, show
from headrace_cache.wire.values import error_of, path_of, version_of
from headrace_namespace.clock import Clock
from headrace_namespace.errors import (
    HeadraceError,
    StoreAnswerWrong,
    StoreTimeout,
    StoreUnavailable,
)
from headrace_namespace.http_pool import CutShort, HttpPool, PoolHints
from headrace_namespace.http_upload import Upload
from headrace_namespace.identity import ObjectVersion
from headrace_namespace.naming import at_node
from headrace_namespace.path import NamespacePath

Answer = TypeVar("Answer", bound=c.Answered)
_T = TypeVar("_T")

CONNECT_SECONDS = 5.0
#: The node says every `BEAT_SECONDS` that it is at it; who says nothing for so long is dead.
SILENCE_SECONDS = 30.0
#: Requests of one process at once.
MOST_CONNECTIONS = 32
#: How long to wait before each new try: a node that is started anew is back by then.
TRY_AGAIN_SECONDS = (0.1, 0.4, 1.0)
#: Of an answer that is one message; a list of mounts may be long.
MOST_ANSWER_BYTES = 64 << 20

_HINTS = PoolHints(
    address="check the node's address",
    refused="check the node's address, and whether it runs",
    trust="is it the node's address? for a private authority give its file as ca",
    no_tls="a node without TLS is reached with tls = false, on loopback alone",
    no_http="check the port; a node with TLS is not reached with tls = false",
    busy="the node may be too slow for so many readers",
    broke="so hangs up a node that ends, or that wants to see another certificate of its client",
)
_PLAIN_HINTS = replace(_HINTS, broke="a node with TLS is not reached with tls = false")


class Refused(Exception):
    """The node has refused a request before it did anything."""

    def __init__(self, error: HeadraceError) -> None:
        self.error = error


class HttpNodeClient:
    """One node of another host. Safe to use from many threads and forks; asks nobody by itself."""

    def __init__(self, address: NodeAddress, release: str, clock: Clock) -> None:
        """Raises ConfigError where a certificate cannot be used."""
        self.address = address
        self._release = release
        self._clock = clock
        self._pool = HttpPool(
            address.endpoint,
            connect_seconds=CONNECT_SECONDS,
            read_seconds=SILENCE_SECONDS,
            tls=_tls(address),
            most_connections=MOST_CONNECTIONS,
            hints=_HINTS if address.endpoint.scheme == "https" else _PLAIN_HINTS,
        )
        self._headers = {
            "Host": address.endpoint.authority,
            "User-Agent": "headrace",
            "Accept": routes.MESSAGE_TYPE,
            routes.PROTOCOL_HEADER: str(routes.HTTP_PROTOCOL),
            routes.RELEASE_HEADER: release,
        }
        if address.token is not None:
            self._headers["Authorization"] = f"Bearer {address.token}"

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()

    def ask(self, request: c.Asked, kind: type[Answer]) -> Answer:
        """The node's answer. Raises what it answers with, and StoreUnavailable."""
        body = c.encode(request)
        path = getattr(request, "path", None)

        def take(response: http.client.HTTPResponse) -> Answer:
            told = c.answered_of(_message(response))
            if not isinstance(told, kind):
                raise StoreAnswerWrong(f"{self.where} answers with another message than asked for")
            return told

        try:
            return self.exchange(
                "POST",
                routes.ASK,
                {"Content-Type": routes.MESSAGE_TYPE},
                take,
                body=memoryview(body),
                repeatable=not isinstance(request, c.Changing),
            )
        except HeadraceError as error:
            self.named(error, None if path is None else path_of(path))
            raise

    def listed(self, request: m.List) -> Iterator[m.Listed]:
        """The parts of a listing, as they come; the connection is free when this ends."""
        body = memoryview(c.encode(request))
        sent = self._headers | {"Content-Type": routes.MESSAGE_TYPE}
        sent["Content-Length"] = str(len(body))

        def begin() -> tuple[http.client.HTTPResponse, ExitStack]:
            with ExitStack() as ends:
                asked = self._pool.exchange("POST", routes.ASK, sent, body)
                response = ends.enter_context(asked)
                self.check(response)
                return response, ends.pop_all()

        response, ends = self._tried(begin, True)
        with ends:
            while True:
                told = c.answered_of(_part(response))
                if isinstance(told, m.Failed):
                    raise _answered(told)
                if not isinstance(told, m.Listed):
                    raise StoreAnswerWrong(f"{self.where} answers a listing with something else")
                yield told
                if told.listing is None:
                    return

    def exchange(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        take: Callable[[http.client.HTTPResponse], _T],
        *,
        body: memoryview | None = None,
        repeatable: bool = True,
    ) -> _T:
        """What `take` makes of a good answer; asked again where that is safe and may help."""
        sent = {**self._headers, **headers}
        if body is not None:
            sent["Content-Length"] = str(len(body))

        def once() -> _T:
            with self._pool.exchange(method, target, sent, body, repeatable=repeatable) as response:
                self.check(response)
                return take(response)

        return self._tried(once, repeatable)

    def upload(self, target: str, headers: Mapping[str, str]) -> Upload:
        """A PUT whose body is sent as it is made."""
        sent = {**self._headers, **headers}
        return self._tried(lambda: Upload(self._pool, "PUT", target, sent), True)

    def made(self, response: http.client.HTTPResponse) -> ObjectVersion:
        """The version that an answer to a PUT tells of. Raises what it answers with."""
        try:
            self.check(response)
            told = c.answered_of(_message(response))
        except Refused as refused:
            raise refused.error from None
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, HeadraceError):
                raise  # some are OSErrors too
            raise self._pool.translated(error) from error
        if not isinstance(told, c.Made):
            raise StoreAnswerWrong(f"{self.where} does not say what it has written")
        return version_of(told.version)

    def check(self, response: http.client.HTTPResponse) -> None:
        """Raises what a refusal means, and Refused where the node has not done anything yet."""
        spoken = response.headers.get(routes.PROTOCOL_HEADER)
        if spoken is None:
            raise StoreAnswerWrong(
                f"what answers at {self.where} is no headrace node (HTTP {response.status})",
                hint="check the port, and that no proxy stands before the node",
            )
        if response.status in (200, 206):
            return
        error: HeadraceError
        if response.headers.get("Content-Type") == routes.MESSAGE_TYPE:
            told = c.answered_of(_message(response))
            if not isinstance(told, m.Failed):
                raise StoreAnswerWrong(f"{self.where} answers {response.status}, and not why")
            error = _answered(told)
        elif spoken != str(routes.HTTP_PROTOCOL):
            theirs = response.headers.get(routes.RELEASE_HEADER, "unknown")
            ours = str(routes.HTTP_PROTOCOL)
            speaks = int(spoken) if spoken.isdecimal() else 0
            raise routes.other_protocol(theirs, speaks, self._release, ours)
        else:
            error = StoreUnavailable(f"{self.where} answers {response.status}")
        if response.status == 503:
            raise Refused(error)
        if response.status == 401 and self.address.token is None and error.hint:
            error.hint = "give a token: token_file, token_env or token"
        raise error

    def named(self, error: HeadraceError, path: NamespacePath | None) -> HeadraceError:
        """The same error, its path, or `path` where it has none, named as of this node."""
        if path is not None and isinstance(error, OSError):  # others are of no object
            error.at(path=path.text)
        return at_node(error, self.address.authority)

    @property
    def where(self) -> str:
        """The node, as errors name it."""
        return f"the node {self.address.authority}"

    def _tried(self, once: Callable[[], _T], repeatable: bool) -> _T:
        waits = iter(TRY_AGAIN_SECONDS)
        while True:
            try:
                return once()
            except Refused as refused:
                error = refused.error
            except StoreUnavailable as lost:
                # A silence has lasted long enough; and what the node itself was told by its store
                # it has tried again already.
                again = repeatable or isinstance(lost.__cause__, _UNSENT)
                if not again or not lost.retriable or lost.answered or _is_silence(lost):
                    raise
                error = lost
            wait = next(waits, None)
            if wait is None:
                raise error
            self._clock.sleep(wait)


#: Failures from before a request left.
_UNSENT = (ConnectionRefusedError, socket.gaierror, CutShort)


def _is_silence(error: StoreUnavailable) -> bool:
    return isinstance(error, StoreTimeout)


def _answered(told: m.Failed) -> HeadraceError:
    """An error that the node has answered with: nothing was lost on the way."""
    error = error_of(told)
    error.answered = True
    return error


def _message(response: http.client.HTTPResponse) -> bytes:
    """An answer that is one message. Raises IncompleteRead where it is cut short: the connection
    broke, and it is not that this release could not read it."""
    length = response.length
    data = response.read(MOST_ANSWER_BYTES)
    if length is not None and len(data) < min(length, MOST_ANSWER_BYTES):
        raise http.client.IncompleteRead(data, length - len(data))
    return data


def _part(response: http.client.HTTPResponse) -> bytes:
    """The next part of a listing. Raises IncompleteRead where it is cut short."""
    head = _exactly(response, c.LENGTH.size)
    (length,) = c.LENGTH.unpack(head)
    if length > c.MOST_PART_BYTES:
        raise StoreAnswerWrong("a part of a listing is longer than any may be")
    return _exactly(response, length)


def _exactly(response: http.client.HTTPResponse, count: int) -> bytes:
    data = response.read(count)
    if len(data) < count:
        raise http.client.IncompleteRead(data, count - len(data))
    return data


def _tls(address: NodeAddress) -> ssl.SSLContext | None:
    if address.endpoint.scheme != "https":
        return None
    context = client_context(address.ca)
    context.set_alpn_protocols(["http/1.1"])
    if address.certificate is not None and address.key is not None:
        show(context, address.certificate, address.key, whose="this client")
    return context
