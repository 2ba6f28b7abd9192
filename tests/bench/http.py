"""Reading through a node over HTTP beside a bare socket that sends the same bytes, all of it warm.

`python -m tests.bench.http [MB]`. One long read, and the node's CPU time for it; the bare socket is
another process that sends its memory whole, as fast as a kernel does. Then the small ranges of
`http_small.py`.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from headrace_cache.service import CacheService
from headrace_mounts.connect import connect_node, disconnect_all
from headrace_namespace.path import NamespacePath
from tests.bench import http_small
from tests.bench.http_small import cpu_seconds

ROUNDS = 7
OBJECT = NamespacePath("/data/object")

_SENDER = """
import socket, sys
data = open(sys.argv[1], "rb").read()
with socket.create_server(("127.0.0.1", 0)) as listener:
    print(listener.getsockname()[1], flush=True)
    connected, _ = listener.accept()
    with connected:
        while connected.recv(1):
            connected.sendall(data)
"""


def main(megabytes: int = 256) -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as name:
        root = Path(name)
        (root / "data").mkdir()
        file = root / "data/object"
        with file.open("wb") as target:
            for _ in range(megabytes):
                target.write(os.urandom(1 << 20))
        config = root / "headrace.toml"
        config.write_text(
            '[[mount]]\npath = "/data"\nurl = "data"\nfreshness = "1h"\n'
            '[cache]\nfolder = "cache"\nkey_file = "key"\nstate_folder = "state"\n'
            'memory = "2GiB"\nssd = "0"\n[node.http]\nlisten = "127.0.0.1:0"\n'
            "tls = false\nauthentication = false\n"
        )
        command = [sys.executable, "-m", "headrace", "--config", str(config), "node"]
        node = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        sender = subprocess.Popen(
            [sys.executable, "-c", _SENDER, str(file)], stdout=subprocess.PIPE, text=True
        )
        try:
            assert node.stderr is not None and sender.stdout is not None
            port = node.stderr.readline().partition("http://127.0.0.1:")[2].partition(";")[0]
            service = connect_node(f"127.0.0.1:{port}", {"tls": False}, {})
            bare = socket.create_connection(("127.0.0.1", int(sender.stdout.readline())))
            with bare:
                _long(service, bare, megabytes << 20, node.pid)
            http_small.main(service, OBJECT, file, int(port), node.pid)
            disconnect_all()
        finally:
            for process in (node, sender):
                process.terminate()
                process.wait(30)
                for stream in (process.stdout, process.stderr):
                    if stream is not None:
                        stream.close()


def _long(service: CacheService, bare: socket.socket, size: int, node: int) -> None:
    opened = service.open(OBJECT)
    target = bytearray(size)
    view = memoryview(target)
    opened.read_into(0, view)

    def received() -> None:
        bare.sendall(b"x")
        done = 0
        while done < size:
            done += bare.recv_into(view[done:])

    received()
    best = {"bare": float("inf"), "node": float("inf")}
    cpu = 0.0
    for _ in range(ROUNDS):  # in turn, so that both see the same machine
        begun = time.perf_counter()
        received()
        best["bare"] = min(best["bare"], time.perf_counter() - begun)
        before, begun = cpu_seconds(node), time.perf_counter()
        opened.read_into(0, view)
        best["node"] = min(best["node"], time.perf_counter() - begun)
        cpu += cpu_seconds(node) - before
    gib = size / 2**30
    print(
        f"one read of {size >> 20} MiB: bare socket {gib / best['bare']:.2f} GiB/s, node "
        f"{gib / best['node']:.2f} GiB/s, ratio {best['bare'] / best['node']:.2f}; the node: "
        f"{cpu / gib / ROUNDS:.2f} CPU s per GiB"
    )
    opened.close()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
