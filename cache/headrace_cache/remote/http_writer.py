"""An object written through a node of another host: a PUT whose body is sent as it is made."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TypeVar

from headrace_cache.remote.http_client import HttpNodeClient
from headrace_cache.wire import routes
from headrace_namespace.errors import HeadraceError
from headrace_namespace.http_upload import Upload
from headrace_namespace.identity import ObjectVersion
from headrace_namespace.path import NamespacePath

_T = TypeVar("_T")

#: What is gathered before it is sent; an object of at most so many bytes is one request.
GATHERED_BYTES = 1 << 20


class HttpWriter:
    """A new object being written; see `OpenWriter`. For one thread."""

    def __init__(
        self, client: HttpNodeClient, path: NamespacePath, headers: Mapping[str, str], begun: int
    ) -> None:
        """`begun`: the bytes that are there already, where it appends."""
        self._client = client
        #: The path that it is written to.
        self.path = path
        self._target = routes.target_of(path)
        self._headers = headers
        self._written = begun
        self._gathered = bytearray()
        self._upload: Upload | None = None
        self._over = False
        self._pid = os.getpid()

    @property
    def written(self) -> int:
        """Bytes written so far; with those that were there before, where it appends."""
        return self._written

    def write(self, data: memoryview) -> None:
        """The next bytes; waits while the node has as much under way as may be."""
        self._check()
        with memoryview(data) as own, own.cast("B") as rest:
            if len(self._gathered) + len(rest) <= GATHERED_BYTES:
                self._gathered += rest
            else:
                self._guarded(lambda: self._send(rest))
        self._written += data.nbytes

    def finish(self) -> None:
        """Send all that was written, where it is more than one request takes."""
        self._check()
        if self._upload is not None and self._gathered:
            self._guarded(lambda: self._send(memoryview(b"")))

    def commit(self) -> ObjectVersion:
        """Let the object take its place; the version that the store gave it."""
        self.finish()
        version = self._guarded(self._made)
        self._over = True
        if self._upload is not None:
            self._upload.close()
        return version

    def abort(self) -> None:
        """Give it up: what was there stays. Does nothing after the end, nor in a forked child."""
        if self._over or self._pid != os.getpid():
            return
        self._over = True
        self._gathered = bytearray()
        if self._upload is not None:
            self._upload.close()

    def __del__(self) -> None:
        if hasattr(self, "_pid"):
            self.abort()

    def _made(self) -> ObjectVersion:
        if self._upload is not None:
            return self._client.made(self._upload.finish())
        return self._client.exchange(
            "PUT",
            self._target,
            self._headers,
            self._client.made,
            body=memoryview(self._gathered),
            repeatable=False,
        )

    def _send(self, data: memoryview) -> None:
        """What was gathered, and then this."""
        if self._upload is None:
            self._upload = self._client.upload(self._target, self._headers)
        gathered, self._gathered = self._gathered, bytearray()
        for piece in (memoryview(gathered), data):
            answer = self._upload.send(piece) if len(piece) else None
            if answer is not None:
                self._client.made(answer)

    def _guarded(self, work: Callable[[], _T]) -> _T:
        """An error of it is the end of the writing."""
        try:
            return work()
        except HeadraceError as error:
            self._client.named(error, self.path)
            self.abort()
            raise
        except BaseException:
            self.abort()
            raise

    def _check(self) -> None:
        if self._pid != os.getpid():
            raise ValueError(
                f"{self.path} was being written when this process was forked: only the process "
                "that began it can go on"
            )
        if self._over:
            raise ValueError(f"the writing of {self.path} has ended")
