"""Connections of loopback led through a test's own hands, on their way to a store."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Generator
from urllib.parse import urlsplit

Pump = Callable[[socket.socket, socket.socket], object]
"""Moves what it gets from the one socket to the other, until there is no more."""


@contextlib.contextmanager
def relayed(endpoint: str, connected: Callable[[], tuple[Pump, Pump]]) -> Generator[str]:
    """An address that leads to the store at `endpoint`, until the block ends.

    `connected` is asked once a connection, for who moves its requests and who its answers; each
    works in a thread of its own. Requests are signed for the address that the client knows; it
    travels with them unchanged.
    """
    where = urlsplit(endpoint)
    assert where.hostname is not None and where.port is not None
    store = (where.hostname, where.port)
    listening = socket.create_server(("127.0.0.1", 0), backlog=512)
    open_sockets: list[socket.socket] = []

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client = listening.accept()[0]
                open_sockets.append(client)
                try:
                    server = socket.create_connection(store)
                except OSError:
                    client.close()
                    continue
                open_sockets.append(server)
                ask, answer = connected()
                for pump, source, target in ((ask, client, server), (answer, server, client)):
                    target.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    threading.Thread(
                        target=_until_closed, args=(pump, source, target), daemon=True
                    ).start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        listening.shutdown(socket.SHUT_RDWR)  # closing alone does not wake who accepts
        listening.close()
        accepting.join()
        for one in open_sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


def _until_closed(pump: Pump, source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        pump(source, target)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
