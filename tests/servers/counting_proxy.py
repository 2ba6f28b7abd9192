"""A store's connections led through a counter, so that a test sees what truly crossed the wire,
whichever process asked for it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Generator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

CHUNK_BYTES = 1 << 16


@dataclass
class Traffic:
    """What passed since the last `reset`: bytes that the store sent, and GET requests made to it
    (listings are GETs too). `endpoint` is where to go instead of the store."""

    endpoint: str
    received_bytes: int = 0
    gets: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def reset(self) -> None:
        """Count from zero again."""
        with self._lock:
            self.received_bytes = self.gets = 0

    def count(self, sent: int, chunk: bytes) -> None:
        """Count bytes that the store sent, or a chunk that was sent to it."""
        with self._lock:
            self.received_bytes += sent
            # A client sends a request's head in one piece, as the first of its connection's turn.
            self.gets += chunk.startswith(b"GET ")


@contextlib.contextmanager
def counted(endpoint: str) -> Generator[Traffic]:
    """A port of loopback that leads to the store at `endpoint`, until the block ends.

    Requests are signed for the address that the client knows; it travels with them unchanged.
    """
    where = urlsplit(endpoint)
    assert where.hostname is not None and where.port is not None
    store = (where.hostname, where.port)
    listening = socket.create_server(("127.0.0.1", 0))
    traffic = Traffic(f"http://127.0.0.1:{listening.getsockname()[1]}")
    open_sockets: list[socket.socket] = []

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client = listening.accept()[0]
                server = socket.create_connection(store)
                open_sockets.extend((client, server))
                for source, target, is_store in ((client, server, False), (server, client, True)):
                    target.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    threading.Thread(
                        target=_pump, args=(source, target, traffic, is_store), daemon=True
                    ).start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield traffic
    finally:
        # Closing alone does not wake a thread that waits in accept.
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        accepting.join()
        for one in open_sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


def _pump(source: socket.socket, target: socket.socket, traffic: Traffic, is_store: bool) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(CHUNK_BYTES):
            traffic.count(len(chunk) if is_store else 0, b"" if is_store else chunk)
            target.sendall(chunk)
        target.shutdown(socket.SHUT_WR)
