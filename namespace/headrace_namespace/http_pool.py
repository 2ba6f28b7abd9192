"""One bounded pool of HTTP connections to one host, whose answers are read into given memory.

The standard library's client fills a caller's buffer straight from the socket: twice the speed of
the usual S3 clients at a third of their CPU. S3 and the clients of a node both ask by it. Proxies
are not supported: the variables HTTP_PROXY and the like are not looked at.
"""

from __future__ import annotations

import http.client
import os
import select
import socket
import ssl
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from headrace_namespace.endpoint import Endpoint
from headrace_namespace.errors import (
    AccessRefused,
    HeadraceError,
    StoreAnswerWrong,
    StoreTimeout,
    StoreUnavailable,
)
from headrace_namespace.http_answer import HttpAnswer
from headrace_namespace.http_request import Request

#: How long a request may wait for one of the connections: several large ranges' time.
WAIT_SECONDS = 60.0
#: What is read off an unwanted answer to keep its connection; beyond, a new one is cheaper.
DRAIN_BYTES = 64 << 10

#: How a server shows that it closed a connection while it was idle.
_CLOSED_IDLE = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)


@dataclass(frozen=True, slots=True)
class PoolHints:
    """What a user can do about each failure, in the words of what he has configured."""

    address: str
    refused: str
    trust: str
    no_tls: str
    no_http: str
    busy: str
    broke: str | None = None


class CutShort(ConnectionError):
    """The request did not leave whole, so that nobody can have acted on it."""


class HttpPool:
    """At most `most_connections` connections to one endpoint. Thread-safe, and safe to fork."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        connect_seconds: float,
        read_seconds: float,
        tls: ssl.SSLContext | None,
        most_connections: int,
        hints: PoolHints,
    ) -> None:
        """`tls` is how an `https` endpoint is trusted."""
        self._endpoint = endpoint
        self._connect_seconds = connect_seconds
        self._read_seconds = read_seconds
        self._most = most_connections
        self._tls = tls
        self._hints = hints
        self._closed = False
        self._renew()

    @contextmanager
    def exchange(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: memoryview | None = None,
        *,
        repeatable: bool = True,
    ) -> Generator[http.client.HTTPResponse]:
        """Send a request and give its answer, to be read within the `with`.

        `headers` state the length of a body. An idle connection that turns out to be closed is
        replaced and the request sent anew; one that is not `repeatable`, only where it had not
        left whole. An answer that was read to its end leaves its connection for the next. Raises
        StoreUnavailable, StoreTimeout, or StoreAnswerWrong where it is no HTTP.
        """
        if os.getpid() != self._pid:
            # A forked child shares the sockets with its parent: both would read each other's
            # answers. Its copies of the locks may be held by threads that it does not have.
            for connection in self._idle:
                connection.close()
            self._renew()
        slots = self._slots
        if not slots.acquire(timeout=WAIT_SECONDS):
            raise StoreTimeout(
                f"no connection to {self._endpoint} came free within {WAIT_SECONDS:.0f} s",
                hint=self._hints.busy,
            )
        try:
            request = Request(method, target, headers, body, repeatable)
            connection, response, whole = self._send(request)
            try:
                yield response
            except BaseException as error:
                _hang_up(connection, response)
                if isinstance(error, HeadraceError):
                    raise
                if isinstance(error, OSError | http.client.HTTPException):
                    raise self.translated(error) from error
                raise
            if whole:
                self._give_back(connection, response)
            else:
                _hang_up(connection, response)
        finally:
            slots.release()

    def close(self) -> None:
        """Close the idle connections; those in use close when they are given back."""
        with self._lock:
            self._closed = True
            idle = list(self._idle)
            self._idle.clear()
        for connection in idle:
            connection.close()

    def _renew(self) -> None:
        self._lock = threading.Lock()
        self._slots = threading.BoundedSemaphore(self._most)
        self._idle: list[http.client.HTTPConnection] = []
        self._pid = os.getpid()

    def _send(
        self, request: Request
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse, bool]:
        connection = self._idle_connection()
        if connection is not None:
            try:
                return connection, *_ask_or_close(connection, request)
            except _CLOSED_IDLE as error:
                # Closed while it was idle. Nothing was answered, so asking anew is no second try;
                # unless what was asked may have been done, and must not be twice.
                if not request.repeatable and not isinstance(error, CutShort):
                    raise self.translated(error) from error
            except (OSError, http.client.HTTPException) as error:
                raise self.translated(error) from error
        connection = self.connect()
        try:
            return connection, *_ask_or_close(connection, request)
        except (OSError, http.client.HTTPException) as error:
            raise self.translated(error) from error

    def connect(self) -> http.client.HTTPConnection:
        """A connection of the caller's own, beside those of the pool. Raises as `exchange`."""
        host, port = self._endpoint.host, self._endpoint.port
        connection: http.client.HTTPConnection
        if self._tls is None:
            connection = http.client.HTTPConnection(host, port, timeout=self._connect_seconds)
        else:
            connection = http.client.HTTPSConnection(
                host, port, timeout=self._connect_seconds, context=self._tls
            )
        try:
            connection.connect()
        except TimeoutError as error:
            raise StoreTimeout(
                f"{self._endpoint} did not accept a connection within {self._connect_seconds:g} s"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise self.translated(error) from error
        connection.sock.settimeout(self._read_seconds)
        return connection

    def _idle_connection(self) -> http.client.HTTPConnection | None:
        while True:
            with self._lock:
                if not self._idle:
                    return None
                connection = self._idle.pop()
            # An idle connection with something to read was closed by the server, or is out of step.
            if not _readable(connection.sock):
                return connection
            connection.close()

    def _give_back(
        self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse
    ) -> None:
        with suppress(OSError, http.client.HTTPException):
            if not response.isclosed():
                response.read(DRAIN_BYTES)
        # The socket was dropped already where the server wants the connection closed.
        usable = response.isclosed() and connection.sock is not None
        if usable:
            with self._lock:
                if not self._closed and self._pid == os.getpid():
                    self._idle.append(connection)
                    return
        _hang_up(connection, response)

    def translated(self, error: OSError | http.client.HTTPException) -> HeadraceError:
        """What a failure of a connection means, as an error that names the endpoint."""
        where = str(self._endpoint)
        if isinstance(error, socket.gaierror):
            return StoreUnavailable(
                f"the host of {where} cannot be found: {error.strerror}",
                hint=self._hints.address,
            )
        if isinstance(error, ssl.SSLCertVerificationError):
            return _for_good(
                StoreUnavailable(
                    f"the certificate of {where} is not trusted: {error.verify_message}",
                    hint=self._hints.trust,
                )
            )
        if isinstance(error, ssl.SSLError) and "ALERT_CERTIFICATE_REQ" in (error.reason or ""):
            return AccessRefused(f"{where} demands a certificate of its clients")
        if isinstance(error, ssl.SSLError) and "ALERT_UNKNOWN_CA" in (error.reason or ""):
            return AccessRefused(f"{where} does not trust the certificate that it was shown")
        if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
            return _for_good(
                StoreUnavailable(
                    f"{where} does not speak TLS as it should: {error.reason or error}",
                    hint=self._hints.no_tls,
                )
            )
        if isinstance(error, TimeoutError):
            return StoreTimeout(f"{where} was silent for {self._read_seconds:g} s")
        if isinstance(error, ConnectionRefusedError):
            return StoreUnavailable(f"nothing listens at {where}", hint=self._hints.refused)
        if isinstance(error, OSError):
            return StoreUnavailable(
                f"the connection to {where} broke: {error}", hint=self._hints.broke
            )
        if isinstance(error, http.client.IncompleteRead):
            return StoreUnavailable(f"{where} ended its answer too early")
        return StoreAnswerWrong(
            f"what listens at {where} does not speak HTTP: {type(error).__name__}",
            hint=self._hints.no_http,
        )


def _ask_or_close(
    connection: http.client.HTTPConnection, request: Request
) -> tuple[HttpAnswer, bool]:
    """As `_ask`; where that fails, by an interrupt too, nobody has the connection any more."""
    try:
        return _ask(connection, request)
    except BaseException:
        connection.close()
        raise


def _ask(connection: http.client.HTTPConnection, request: Request) -> tuple[HttpAnswer, bool]:
    """The answer, and whether the request left whole: a server may refuse a body half-way."""
    try:
        request.send(connection.sock)
    except _CLOSED_IDLE as error:
        try:
            return _answer(connection, request), False  # its reason may have come first
        except (OSError, http.client.HTTPException):
            raise CutShort(str(error)) from error
    return _answer(connection, request), True


def _answer(connection: http.client.HTTPConnection, request: Request) -> HttpAnswer:
    answer = HttpAnswer(connection.sock, method=request.method)
    try:
        answer.begin()
    except BaseException:
        answer.close()
        raise
    if answer.will_close:
        connection.close()  # the answer holds the socket until it was read
    return answer


def _hang_up(connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
    # The answer holds the socket open, even where the connection has let go of it.
    response.close()
    connection.close()


def _readable(connected: socket.socket) -> bool:
    if not hasattr(select, "poll"):  # Windows
        return bool(select.select([connected], [], [], 0)[0])
    poll = select.poll()
    poll.register(connected, select.POLLIN)
    return bool(poll.poll(0))


def _for_good(error: StoreUnavailable) -> StoreUnavailable:
    """Say of an error that asking again cannot help."""
    error.retriable = False
    return error
