"""A local file that is overwritten by one `write` that takes long: its times were set as it began,
and are old by the time it ends. No read may take what it sees meanwhile for the new version."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headrace_namespace.backends.local import LocalBackend
from headrace_namespace.backends.local_files import GRAIN_SECONDS
from headrace_namespace.backends.protocol import There
from headrace_namespace.clock import SystemClock
from headrace_namespace.errors import VersionGone
from headrace_namespace.identity import ObjectVersion
from tests.effort import EFFORT
from tests.races.blocks import BLOCK_BYTES, body, version_in

HOUSE = Path(__file__).parents[2]
BLOCKS = (32 << 20) // BLOCK_BYTES
#: One is enough on a loaded machine; an idle one needed up to ten.
MOST_WRITES = 60 * EFFORT


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "table"
    file.write_bytes(body(0, BLOCKS))
    return file


@pytest.fixture
def writer(file: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.races.idle_writer", str(file), str(BLOCKS)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=HOUSE, stdin=pipe, stdout=pipe, text=True) as writer:
        yield writer
        assert writer.stdin is not None
        writer.stdin.close()


def _read(backend: LocalBackend, pinned: ObjectVersion) -> bytes:
    target = bytearray(pinned.size)
    backend.read_into(pinned, 0, memoryview(target))
    return bytes(target)


def _copy(backend: LocalBackend, pinned: ObjectVersion) -> bytes:
    copied = backend.copy(pinned, backend.ref("copy"), There.ANYTHING)
    return Path(copied.ref.key).read_bytes()


@pytest.mark.parametrize("get", [_read, _copy])
def test_what_is_got_during_one_long_write_is_of_one_version(
    file: Path,
    writer: subprocess.Popen[str],
    get: Callable[[LocalBackend, ObjectVersion], bytes],
) -> None:
    assert writer.stdin is not None and writer.stdout is not None
    clock = SystemClock()
    backend = LocalBackend(str(file.parent), clock)
    got, settled_midway = 0, 0
    for version in range(1, 1 + MOST_WRITES):
        writer.stdin.write(f"{version}\n")
        writer.stdin.flush()
        assert writer.stdout.readline() == "begins\n"
        os.set_blocking(writer.stdout.fileno(), False)
        while not writer.stdout.readline():
            settled_midway += _is_settled_midway(file, version, clock)
            try:
                assert version_in(get(backend, _pinned(backend, file))) in (version - 1, version)
            except VersionGone:
                continue
            got += 1
        os.set_blocking(writer.stdout.fileno(), True)
        assert version_in(get(backend, _pinned(backend, file))) == version
        if got and settled_midway >= EFFORT:
            return
    pytest.fail("no write took longer than the grain of a file's times")


def _pinned(backend: LocalBackend, file: Path) -> ObjectVersion:
    version = backend.stat(file.name)
    assert isinstance(version, ObjectVersion)
    return version


def _is_settled_midway(file: Path, version: int, clock: SystemClock) -> bool:
    """Whether the file's times are old though the write has not come to its end."""
    with file.open("rb") as opened:
        opened.seek(-BLOCK_BYTES, os.SEEK_END)
        end = version_in(opened.read(), (BLOCKS - 1) * BLOCK_BYTES)
        opened.seek(0)
        start = version_in(opened.read(BLOCK_BYTES))
        age = clock.now() - os.fstat(opened.fileno()).st_ctime
    return (start, end) == (version, version - 1) and age > GRAIN_SECONDS
