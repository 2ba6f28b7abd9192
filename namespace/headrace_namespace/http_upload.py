"""A request whose body goes out as it is made, over a connection of its own."""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from contextlib import suppress

from headrace_namespace.http_pool import HttpPool
from headrace_namespace.http_request import SEND_BYTES


class Upload:
    """A chunked body under way. For one thread. It ends by `finish` or `close`, and whoever takes
    it knows by its last chunk that it is whole."""

    def __init__(
        self, pool: HttpPool, method: str, target: str, headers: Mapping[str, str]
    ) -> None:
        """Raises as `HttpPool.exchange`."""
        self._pool = pool
        self._answer: http.client.HTTPResponse | None = None
        self._connection = pool.connect()
        try:
            self._connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():
                self._connection.putheader(name, value)
            self._connection.putheader("Transfer-Encoding", "chunked")
            self._connection.endheaders()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise pool.translated(error) from error

    def send(self, data: memoryview) -> http.client.HTTPResponse | None:
        """The next bytes. Where the other end has refused the body meanwhile, its answer."""
        for start in range(0, len(data), SEND_BYTES):
            with data[start : start + SEND_BYTES] as piece:
                self._send(b"%x\r\n" % len(piece), piece, b"\r\n")
            if self._answer is not None:
                return self._answer
        return None

    def finish(self) -> http.client.HTTPResponse:
        """The body is whole: its answer, to be read before `close`."""
        self._send(b"0\r\n\r\n")
        if self._answer is not None:
            return self._answer
        try:
            return self._connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise self._pool.translated(error) from error

    def close(self) -> None:
        """Break the connection: a body that is not whole comes to nothing."""
        if self._answer is not None:
            self._answer.close()
        self._connection.close()

    def _send(self, *pieces: bytes | memoryview) -> None:
        try:
            for piece in pieces:
                self._connection.send(piece)
        except (OSError, http.client.HTTPException) as error:
            with suppress(OSError, http.client.HTTPException):
                self._answer = self._connection.getresponse()  # its reason may have come before
            if self._answer is None:
                self.close()
                raise self._pool.translated(error) from error
