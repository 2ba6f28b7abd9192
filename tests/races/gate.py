"""A store made slow by events: the bodies of its answers are held midway until they are let go."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Generator
from urllib.parse import urlsplit

CHUNK_BYTES = 1 << 14
#: Heads, looks and errors pass whatever is held.
SMALL_BYTES = 1 << 15
PATIENCE = 60.0


class Gate:
    """Open at first. While it is held, no connection gives more than a little beyond what is
    `drip`ped; `requests` counts what was asked, by the request's first words."""

    def __init__(self) -> None:
        self.endpoint = ""
        self.requests: list[str] = []
        self._changed = threading.Condition()
        self._allowed: int | None = None
        self._stuck = 0
        self._round = 0

    def hold(self) -> None:
        """Let each connection give a little from now on, and then hold it."""
        with self._changed:
            self._allowed = SMALL_BYTES
            self._round += 1

    def drip(self, count: int) -> None:
        """Let each connection give so many bytes more."""
        with self._changed:
            if self._allowed is not None:
                self._allowed += count
                self._changed.notify_all()

    def release(self) -> None:
        """Hold nothing any more."""
        with self._changed:
            self._allowed = None
            self._changed.notify_all()

    def await_held(self, connections: int = 1) -> None:
        """Return when so many answers are held midway."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._stuck >= connections, PATIENCE)

    def reads(self) -> int:
        """How many ranges or whole objects were asked for; listings are none."""
        return sum(
            line.startswith("GET ") and "list-type=" not in line for line in tuple(self.requests)
        )

    def await_reads(self, count: int) -> None:
        """Return when so many were asked for."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.reads() >= count, PATIENCE)

    def count(self, chunk: bytes) -> None:
        """A chunk that was sent to the store."""
        # A client sends a request's head in one piece, as the first of its connection's turn.
        line = chunk.split(b"\r\n", 1)[0]
        if line.endswith(b"HTTP/1.1"):
            with self._changed:
                self.requests.append(line.decode())
                self._changed.notify_all()

    def pass_through(self, turn: list[int], count: int) -> None:
        """Return when a connection may give `count` bytes; `turn` is its [round, given]."""
        with self._changed:
            if turn[0] != self._round:
                turn[:] = [self._round, 0]
            turn[1] += count

            def may() -> bool:
                return self._allowed is None or turn[0] != self._round or turn[1] <= self._allowed

            if not may():
                self._stuck += 1
                self._changed.notify_all()
                try:
                    # Whoever forgets to let go: the test fails by its reads, not by hanging.
                    self._changed.wait_for(may, PATIENCE)
                finally:
                    self._stuck -= 1


@contextlib.contextmanager
def gated(endpoint: str) -> Generator[Gate]:
    """A port of loopback that leads through a gate to the store at `endpoint`."""
    where = urlsplit(endpoint)
    assert where.hostname is not None and where.port is not None
    store = (where.hostname, where.port)
    listening = socket.create_server(("127.0.0.1", 0), backlog=512)
    gate = Gate()
    gate.endpoint = f"http://127.0.0.1:{listening.getsockname()[1]}"
    open_sockets: list[socket.socket] = []

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client = listening.accept()[0]
                server = socket.create_connection(store)
                open_sockets.extend((client, server))
                turn = [0, 0]
                for work in (_ask, _answer):
                    threading.Thread(
                        target=work, args=(client, server, gate, turn), daemon=True
                    ).start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield gate
    finally:
        gate.release()
        listening.shutdown(socket.SHUT_RDWR)  # closing alone does not wake who accepts
        listening.close()
        accepting.join()
        for one in open_sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


def _ask(client: socket.socket, server: socket.socket, gate: Gate, turn: list[int]) -> None:
    with contextlib.suppress(OSError):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while chunk := client.recv(1 << 16):
            gate.count(chunk)
            server.sendall(chunk)
        server.shutdown(socket.SHUT_WR)


def _answer(client: socket.socket, server: socket.socket, gate: Gate, turn: list[int]) -> None:
    with contextlib.suppress(OSError):
        while chunk := server.recv(CHUNK_BYTES):
            gate.pass_through(turn, len(chunk))
            client.sendall(chunk)
    # Who asked must learn that no more will come, also where he went first.
    for one in (client, server):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
