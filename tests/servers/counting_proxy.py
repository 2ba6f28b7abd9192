"""A store's connections led through a counter, so that a test sees what truly crossed the wire,
whichever process asked for it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Generator
from dataclasses import dataclass, field

from tests.servers.relay import Pump, relayed

CHUNK_BYTES = 1 << 16


@dataclass
class Traffic:
    """What passed since the last `reset`: bytes that the store sent, and GET requests made to it
    (listings are GETs too). `endpoint` is where to go instead of the store."""

    endpoint: str = ""
    received_bytes: int = 0
    gets: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def reset(self) -> None:
        """Count from zero again."""
        with self._lock:
            self.received_bytes = self.gets = 0

    def ask(self, client: socket.socket, store: socket.socket) -> None:
        """Move one connection's requests."""
        while chunk := client.recv(CHUNK_BYTES):
            with self._lock:
                # A client sends a request's head in one piece, as the first of its turn.
                self.gets += chunk.startswith(b"GET ")
            store.sendall(chunk)

    def answer(self, store: socket.socket, client: socket.socket) -> None:
        """Move one connection's answers."""
        while chunk := store.recv(CHUNK_BYTES):
            with self._lock:
                self.received_bytes += len(chunk)
            client.sendall(chunk)


@contextlib.contextmanager
def counted(endpoint: str) -> Generator[Traffic]:
    """A port of loopback that leads to the store at `endpoint`, until the block ends."""
    traffic = Traffic()

    def connected() -> tuple[Pump, Pump]:
        return traffic.ask, traffic.answer

    with relayed(endpoint, connected) as traffic.endpoint:
        yield traffic
