"""Starting and stopping the demo's S3 endpoint."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from headrace_namespace.clock import Clock
from headrace_namespace.errors import StoreUnavailable

#: It takes about a second; a slow, busy machine gets thirty times that.
START_SECONDS = 30.0
STOP_SECONDS = 5.0
_POLL_SECONDS = 0.02
#: Of what it printed before it failed, as much as a person reads.
_LOG_TAIL_CHARACTERS = 2000


@contextmanager
def s3_endpoint(folder: Path, clock: Clock) -> Generator[str]:
    """The URL of a real, empty S3 endpoint on loopback; it is gone when the block is left.

    What it prints and spools stays in `folder`. Raises StoreUnavailable where it does not start.
    """
    folder.mkdir()
    port_file, log_file = folder / "port", folder / "log.txt"
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            # -P: a file of the current folder must not stand in for a module.
            [sys.executable, "-P", "-m", "headrace.demo.s3_endpoint_process", str(port_file)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env={**os.environ, "TMPDIR": str(folder)},
            # A Ctrl-C is for the demo, which then stops its server in its own time.
            start_new_session=True,
        )
    try:
        yield f"http://127.0.0.1:{_port(process, port_file, log_file, clock)}"
    finally:
        _stop(process)


def _port(process: subprocess.Popen[bytes], port_file: Path, log_file: Path, clock: Clock) -> int:
    deadline = clock.monotonic() + START_SECONDS
    while not port_file.exists():
        if process.poll() is not None or clock.monotonic() > deadline:
            said = log_file.read_text(errors="replace")[-_LOG_TAIL_CHARACTERS:].strip()
            raise StoreUnavailable(
                f"the demo's S3 endpoint did not start within {START_SECONDS:.0f} s",
                hint=f"it said: {said or 'nothing'}",
            )
        clock.sleep(_POLL_SECONDS)
    return int(port_file.read_text())


def _stop(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
