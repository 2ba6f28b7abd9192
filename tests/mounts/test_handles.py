from __future__ import annotations

import io
import os
import random
from collections.abc import Iterator

import pytest

from headrace_mounts.handles import HeadraceFile
from headrace_namespace.path import NamespacePath
from tests.fakes.local_cache import PAGE, Rig
from tests.fakes.memory_backend import MemoryBackend

DATA = b"".join(os.urandom(random.Random(1).randrange(400)) + b"\n" for _ in range(3000))


@pytest.fixture
def rig() -> Iterator[Rig]:
    lake = MemoryBackend("memory:lake")
    lake.set("a", DATA)
    lake.set("empty", b"")
    rig = Rig({"/lake": lake})
    yield rig
    rig.service.close()


def opened(rig: Rig, name: str = "a") -> HeadraceFile:
    return HeadraceFile(rig.service.open(NamespacePath.parse(f"/lake/{name}")))


def test_it_behaves_as_a_file_in_memory(rig: Rig) -> None:
    rng = random.Random(7)
    with opened(rig) as file:
        plain = io.BytesIO(DATA)
        for _ in range(2000):
            count = rng.choice([0, 1, 17, 4096, PAGE, 3 * PAGE])
            match rng.randrange(7):
                case 0:
                    assert file.read(count) == plain.read(count)
                case 1:
                    assert file.readline() == plain.readline()
                case 2:
                    assert file.readline(count) == plain.readline(count)
                case 3:
                    mine, theirs = bytearray(count), bytearray(count)
                    assert file.readinto(mine) == plain.readinto(theirs) and mine == theirs
                case 4:
                    position = rng.randrange(len(DATA) + 10)
                    assert file.seek(position) == plain.seek(position)
                case 5:
                    assert file.seek(-min(count, len(DATA)), os.SEEK_END) == plain.seek(
                        -min(count, len(DATA)), os.SEEK_END
                    )
                case _:
                    assert bytes(file.read_buffer(count)) == plain.read(count)
            assert file.tell() == plain.tell()


def test_lines_and_text(rig: Rig) -> None:
    with opened(rig) as file:
        assert list(file) == list(io.BytesIO(DATA))
    with opened(rig) as file:
        assert file.readlines() == io.BytesIO(DATA).readlines()
    text = io.TextIOWrapper(opened(rig), encoding="latin-1", newline="")
    assert text.read() == DATA.decode("latin-1")
    text.close()


def test_an_empty_object(rig: Rig) -> None:
    with opened(rig, "empty") as file:
        assert file.read() == b"" and file.readline() == b"" and bytes(file.read_buffer()) == b""
        assert file.readinto(bytearray(4)) == 0


def test_it_tells_its_version_and_refuses_when_closed(rig: Rig) -> None:
    file = opened(rig)
    assert file.version == "v1" and file.size == len(DATA) and file.path == "/lake/a"
    with pytest.raises(ValueError, match="position"):
        file.seek(-1)
    file.close()
    for use in (file.read, file.readline, file.read_buffer, lambda: file.read(0)):
        with pytest.raises(ValueError, match="closed"):
            use()
