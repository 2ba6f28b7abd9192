"""An HTTP server on loopback that does what no real server can be made to do, step by step."""

from __future__ import annotations

import socket
import struct
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import IO, Literal, Self


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it came: header names in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer with a right Content-Length, unless the headers say otherwise."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""
    #: What becomes of the connection: kept, closed, reset, or left in silence.
    then: Literal["keep", "close", "reset", "stall"] = "keep"

    def encoded(self, *, with_body: bool) -> bytes:
        headers = {"Content-Length": str(len(self.body)), **self.headers}
        lines = [f"HTTP/1.1 {self.status} Said", *(f"{k}: {v}" for k, v in headers.items() if v)]
        head = "\r\n".join(lines).encode() + b"\r\n\r\n"
        return head + self.body if with_body else head


@dataclass(frozen=True, slots=True)
class Raw:
    """Bytes as they are, then the connection's end."""

    data: bytes
    then: Literal["close", "reset", "stall"] = "close"


Step = Answer | Raw


class ScriptedHttp:
    """Answers request after request with the given steps; without a step it hangs up."""

    def __init__(self, *steps: Step) -> None:
        self.requests: list[Request] = []
        self._steps = deque(steps)
        self._ended = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._connections: list[socket.socket] = []
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def endpoint(self) -> str:
        return f"http://{self.authority}"

    @property
    def authority(self) -> str:
        return f"127.0.0.1:{self._listening.getsockname()[1]}"

    @property
    def connections(self) -> int:
        """How many connections were made so far."""
        return len(self._connections)

    def then(self, *steps: Step) -> None:
        """Add steps to the script."""
        self._steps.extend(steps)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._listening.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self._listening.close()
        for connection in self._connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # closed already
        for thread in self._threads[1:]:
            thread.join()

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self._connections.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as lines:
            try:
                while request := _read_request(lines):
                    with self._lock:
                        self.requests.append(request)
                        step = self._steps.popleft() if self._steps else Raw(b"")
                    if isinstance(step, Raw):
                        connection.sendall(step.data)
                    else:
                        connection.sendall(step.encoded(with_body=request.method != "HEAD"))
                    if step.then == "stall":
                        self._ended.wait()
                    if step.then == "reset":
                        # A linger time of 0 makes the close a reset.
                        linger = struct.pack("ii", 1, 0)
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    if step.then != "keep":
                        return
            except OSError:
                return  # the client hung up


def _read_request(lines: IO[bytes]) -> Request | None:
    first = str(lines.readline(), "latin-1").split()
    if len(first) != 3:
        return None
    headers: dict[str, str] = {}
    while line := str(lines.readline(), "latin-1").strip():
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    body = lines.read(int(headers.get("content-length", "0")))
    return Request(first[0], first[1], headers, body)
