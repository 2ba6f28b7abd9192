"""A store made slow by events: the bodies of its answers are held midway until they are let go."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Generator

from tests.servers.relay import Pump, relayed

CHUNK_BYTES = 1 << 14
#: Heads, looks and errors pass whatever is held.
SMALL_BYTES = 1 << 15
PATIENCE = 60.0

_RANGE = re.compile(rb"^range: bytes=(\d+)-(\d+)\r$", re.IGNORECASE | re.MULTILINE)


class Gate:
    """Open at first. While it is held, no connection gives more than a little beyond what is
    `drip`ped; `requests` holds what was asked, by the request's first words, `ranges` the lengths
    of the ranges that were asked for, None for a whole object."""

    def __init__(self) -> None:
        self.endpoint = ""
        self.requests: list[str] = []
        self.ranges: list[int | None] = []
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
        return len(self.ranges)

    def await_reads(self, count: int) -> None:
        """Return when so many were asked for."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.reads() >= count, PATIENCE)

    def ask(self, client: socket.socket, store: socket.socket) -> None:
        """Move one connection's requests, and count them."""
        while chunk := client.recv(1 << 16):
            self._count(chunk)
            store.sendall(chunk)

    def answer(self, store: socket.socket, client: socket.socket, turn: list[int]) -> None:
        """Move one connection's answers, as fast as may be."""
        try:
            while chunk := store.recv(CHUNK_BYTES):
                self._pass_through(turn, len(chunk))
                client.sendall(chunk)
        finally:
            # Who asked must learn that no more will come, also where he went first.
            store.shutdown(socket.SHUT_RDWR)

    def _count(self, chunk: bytes) -> None:
        # A client sends a request's head in one piece, as the first of its connection's turn.
        line = chunk.split(b"\r\n", 1)[0]
        if line.endswith(b"HTTP/1.1"):
            with self._changed:
                self.requests.append(line.decode())
                if _is_read(line.decode()):
                    wanted = _RANGE.search(chunk)
                    length = int(wanted[2]) + 1 - int(wanted[1]) if wanted else None
                    self.ranges.append(length)
                self._changed.notify_all()

    def _pass_through(self, turn: list[int], count: int) -> None:
        # Returns when a connection may give `count` bytes; `turn` is its [round, given].
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
    gate = Gate()

    def connected() -> tuple[Pump, Pump]:
        turn = [0, 0]
        return gate.ask, lambda store, client: gate.answer(store, client, turn)

    with relayed(endpoint, connected) as gate.endpoint:
        try:
            yield gate
        finally:
            gate.release()


def _is_read(line: str) -> bool:
    """Whether a request is for an object's bytes; listings are not."""
    return line.startswith("GET ") and "list-type=" not in line
