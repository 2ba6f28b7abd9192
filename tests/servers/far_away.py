"""A store as it is from afar: an answer takes a while to begin, and a connection has its speed.

Loopback has neither, and clients differ most where both count. What the buckets of the public
clouds give one connection is some 20 to 100 ms to the first byte and some 90 MB/s. A process of its
own (this file run as a program), so that a client's CPU seconds are the client's alone; bytes go
from socket to socket by splice(2), and the kernel keeps the speed.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from urllib.parse import urlsplit

FIRST_BYTE_SECONDS = 0.03
BYTES_PER_SECOND = 90_000_000

#: asm-generic/socket.h; Python does not name it.
SO_MAX_PACING_RATE = 47
PIPE_BYTES = 1 << 20
HEAD_BYTES = 1 << 16


@contextlib.contextmanager
def far_away(endpoint: str) -> Generator[str]:
    """An address that leads to the store at `endpoint`, from afar, until the block ends."""
    process = subprocess.Popen(
        [sys.executable, __file__, endpoint], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None and process.stdout is not None
    with process:
        try:
            yield process.stdout.readline().decode().strip()
        finally:
            process.stdin.close()


def _ask(client: socket.socket, store: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while head := client.recv(HEAD_BYTES):
            time.sleep(FIRST_BYTE_SECONDS)
            store.sendall(head)
        store.shutdown(socket.SHUT_WR)


def _answer(store: socket.socket, client: socket.socket) -> None:
    client.setsockopt(
        socket.SOL_SOCKET, SO_MAX_PACING_RATE, BYTES_PER_SECOND.to_bytes(4, sys.byteorder)
    )
    reading, writing = os.pipe()
    with contextlib.suppress(OSError):
        while count := os.splice(store.fileno(), writing, PIPE_BYTES):
            while count:
                count -= os.splice(reading, client.fileno(), count)
        client.shutdown(socket.SHUT_WR)
    os.close(reading)
    os.close(writing)


def _serve(endpoint: str) -> None:
    where = urlsplit(endpoint)
    assert where.hostname is not None and where.port is not None
    listening = socket.create_server(("127.0.0.1", 0), backlog=128)
    print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)

    def end_with_parent() -> None:
        sys.stdin.buffer.read()
        os._exit(0)

    threading.Thread(target=end_with_parent, daemon=True).start()
    while True:
        client = listening.accept()[0]
        store = socket.create_connection((where.hostname, where.port))
        for end in (client, store):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for work, source, target in ((_ask, client, store), (_answer, store, client)):
            threading.Thread(target=work, args=(source, target), daemon=True).start()


if __name__ == "__main__":
    _serve(sys.argv[1])
