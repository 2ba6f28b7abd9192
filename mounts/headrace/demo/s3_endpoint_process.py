"""The demo's S3 endpoint, as a process of its own: moto's server on a free port of loopback.

Run by `s3_endpoint`. It writes its port to the file that is its argument, and ends when its
standard input does, so that it cannot outlive the demo, however that ends.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from moto.moto_server.threaded_moto_server import ThreadedMotoServer


def main(port_file: Path) -> None:
    """Serve until standard input ends."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    draft = port_file.with_suffix(".draft")
    draft.write_text(str(port))
    draft.rename(port_file)
    sys.stdin.buffer.read()
    # Its threads are daemons and its data is in memory: nothing is lost by leaving at once.
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
