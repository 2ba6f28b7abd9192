"""A request as it goes out: its head in one piece, a small body with it."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass

#: What is sent at once: the time allowed is for each such piece, not for a whole body.
SEND_BYTES = 1 << 20
#: A body of so few bytes goes out with its head: a copy is cheaper than another packet.
JOINED_BYTES = 16 << 10

#: What would end a line early, or is read in more than one way.
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
#: A request line has two spaces.
_NOT_IN_TARGET = re.compile(r"[^!-~]")


@dataclass(frozen=True, slots=True)
class Request:
    """One request; `repeatable` where it does nothing twice. `headers` state the body's length."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: memoryview | None
    repeatable: bool

    def send(self, connected: socket.socket) -> None:
        """Send all of it. Raises OSError, and ValueError for what HTTP cannot say."""
        head, body = self._head(), self.body
        if body is not None and len(body) <= JOINED_BYTES:
            head, body = b"".join((head, body)), None
        connected.sendall(head)
        if body is not None:
            for start in range(0, len(body), SEND_BYTES):
                connected.sendall(body[start : start + SEND_BYTES])

    def _head(self) -> bytes:
        told = [f"{self.method} {self.target} HTTP/1.1"]
        told += [f"{name}: {value}" for name, value in self.headers.items()]
        if _NOT_IN_TARGET.search(self.target) or any(map(_CONTROL.search, told)):
            raise ValueError("a request cannot hold what would end its line")
        return ("\r\n".join(told) + "\r\n\r\n").encode("latin-1")
