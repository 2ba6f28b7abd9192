"""Ranges of 4 KiB by HTTP, one at a time on one connection: what a request costs the node.

Beside it a bare aiohttp server that answers the same ranges from its memory, with nobody to know
and no policy to ask: what the library itself costs. Both are asked by the same few lines over a
socket; then `http.client` and headrace's own client ask the node, and show what a client costs.
"""

from __future__ import annotations

import http.client
import os
import random
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from headrace_cache.service import CacheService
from headrace_cache.wire import routes
from headrace_namespace.path import NamespacePath

ROUNDS, READS, RANGE_BYTES = 7, 3000, 4096

_BARE = """
import asyncio, re, sys
from aiohttp import web
data = open(sys.argv[1], "rb").read()
wanted = re.compile(r"bytes=([0-9]+)-([0-9]+)")
async def answer(request):
    start, last = map(int, wanted.fullmatch(request.headers["Range"]).groups())
    return web.Response(status=206, body=data[start:last + 1],
        headers={"Content-Range": f"bytes {start}-{last}/{len(data)}"})
async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(web.Server(answer, access_log=None), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


@dataclass(frozen=True, slots=True)
class _Contender:
    """Who asks whom: one call reads one range from a place on."""

    read: Callable[[int], object]
    server: int
    seconds: list[float] = field(default_factory=list[float])
    server_seconds: list[float] = field(default_factory=list[float])
    client_seconds: list[float] = field(default_factory=list[float])


def main(service: CacheService, path: NamespacePath, file: Path, port: int, node: int) -> None:
    """Race them and print the table: `path` is the node's object with the bytes of `file`."""
    opened = service.open(path)
    target, etag = routes.target_of(path), routes.etag_of(opened.version)
    with ExitStack() as ends:
        ends.callback(opened.close)
        bare, bare_port = ends.enter_context(_bare_server(file))
        plain = ends.enter_context(
            closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60))
        )

        def by_http_client(place: int) -> None:
            plain.request("GET", target, headers=dict(_headers(etag, place)))
            with plain.getresponse() as response:
                assert len(response.read()) == RANGE_BYTES

        contenders = {
            "bare aiohttp, by a socket": _Contender(
                ends.enter_context(_by_socket(bare_port, target, etag)), bare
            ),
            "the node, by a socket": _Contender(
                ends.enter_context(_by_socket(port, target, etag)), node
            ),
            "the node, by http.client": _Contender(by_http_client, node),
            "the node, by headrace": _Contender(
                lambda place: opened.read_at(place, place + RANGE_BYTES), node
            ),
        }
        _race(contenders, opened.version.size)
    _show(contenders)


def _race(contenders: dict[str, _Contender], size: int) -> None:
    for number in range(ROUNDS + 1):
        for each in random.sample(list(contenders.values()), len(contenders)):
            places = [random.randrange(size - RANGE_BYTES) for _ in range(READS)]
            before, own, begun = cpu_seconds(each.server), time.process_time(), time.perf_counter()
            for place in places:
                each.read(place)
            taken = time.perf_counter() - begun
            if number:  # the first round does not count
                each.seconds.append(taken)
                each.client_seconds.append(time.process_time() - own)
                each.server_seconds.append(cpu_seconds(each.server) - before)


def _show(contenders: dict[str, _Contender]) -> None:
    table = Table(
        title=f"{READS} ranges of {RANGE_BYTES} bytes, one at a time; µs of one",
        title_justify="left",
    )
    for heading in ("contender", "a second", "median", "least", "most", "server CPU", "client CPU"):
        table.add_column(heading, justify="left" if heading == "contender" else "right")
    for name, each in contenders.items():
        median = statistics.median(each.seconds)
        told = (
            median,
            min(each.seconds),
            max(each.seconds),
            statistics.median(each.server_seconds),
            statistics.median(each.client_seconds),
        )
        table.add_row(
            name, f"{READS / median:.0f}", *(f"{seconds / READS * 1e6:.0f}" for seconds in told)
        )
    Console(width=100).print(table)


def _headers(etag: str, place: int) -> Iterator[tuple[str, str]]:
    yield "Host", "localhost"
    yield routes.PROTOCOL_HEADER, str(routes.HTTP_PROTOCOL)
    yield "If-Match", f'"{etag}"'
    yield "Range", f"bytes={place}-{place + RANGE_BYTES - 1}"


@contextmanager
def _by_socket(port: int, target: str, etag: str) -> Generator[Callable[[int], object]]:
    """As little as a client can do: one send, and what comes until the range is whole."""
    buffer = bytearray(64 << 10)
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connected:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def read(place: int) -> None:
            head = "".join(f"{name}: {value}\r\n" for name, value in _headers(etag, place))
            connected.sendall(f"GET {target} HTTP/1.1\r\n{head}\r\n".encode())
            come, end = 0, -1
            while end < 0 or come < end + RANGE_BYTES:
                count = connected.recv_into(memoryview(buffer)[come:])
                assert count, "the server hung up"
                come += count
                if end < 0:
                    end = buffer.find(b"\r\n\r\n", 0, come)
                    end = end + 4 if end >= 0 else -1
            assert buffer.startswith(b"HTTP/1.1 206 "), buffer[:200]

        yield read


@contextmanager
def _bare_server(file: Path) -> Generator[tuple[int, int]]:
    """Its process, and where it listens."""
    command = [sys.executable, "-c", _BARE, str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.pid, int(process.stdout.readline())
        finally:
            process.terminate()


def cpu_seconds(process: int) -> float:
    """What a process has used of the CPUs until now."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
