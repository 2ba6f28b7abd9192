"""A damaged file is found before anything is read through it, and never by dying of it."""

from __future__ import annotations

import os
import random
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import lmdb
import pytest

from headrace_namespace.metadata import lmdb_check
from headrace_namespace.metadata.lmdb_check import DOUBT_FILE, SUM_FILE, forget_file, set_aside
from headrace_namespace.metadata.lmdb_env import (
    IndexDamaged,
    IndexFault,
    SharedEnvironment,
    acquire,
    release,
)

MIB = 1 << 20
PAGE_BYTES = 4096


def put(environment: SharedEnvironment, count: int = 500) -> None:
    database = environment.database("things")
    with environment.write() as txn:
        for number in range(count):
            txn.put(b"%06d" % number, bytes([number % 251]) * 60, db=database)


def count(environment: SharedEnvironment) -> int:
    database = environment.database("things")
    with environment.read() as txn:
        return sum(1 for _ in txn.cursor(db=database))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An environment that was closed in order."""
    folder = tmp_path / "env"
    environment = acquire(folder, MIB)
    put(environment)
    release(environment)
    return folder


def flip(folder: Path, offset: int, bit: int = 0) -> None:
    with (folder / "data.mdb").open("r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ 1 << bit]))


_USE_AND_DIE = """
import os, sys
from pathlib import Path
from headrace_namespace.metadata.lmdb_env import acquire
environment = acquire(Path(sys.argv[1]), 1 << 20)
database = environment.database("things")
with environment.write() as txn:
    txn.put(b"last", b"words", db=database)
os.kill(os.getpid(), 9)
"""


def kill_a_user(folder: Path) -> None:
    done = subprocess.run([sys.executable, "-c", _USE_AND_DIE, str(folder)])
    assert done.returncode == -9


def test_every_flipped_bit_is_found_after_an_orderly_end(folder: Path) -> None:
    whole = (folder / "data.mdb").read_bytes()
    chance = random.Random(4)
    for offset in [chance.randrange(len(whole)) for _ in range(200)]:
        flip(folder, offset, chance.randrange(8))
        with pytest.raises(IndexDamaged):
            acquire(folder, MIB)
        (folder / "data.mdb").write_bytes(whole)
        (folder / "data.doubt").unlink()
    environment = acquire(folder, MIB)
    assert count(environment) == 500
    release(environment)


def test_a_killed_user_leaves_a_file_that_is_walked_through(folder: Path) -> None:
    kill_a_user(folder)
    environment = acquire(folder, MIB)
    assert count(environment) == 501
    release(environment)


def test_a_walk_that_dies_is_not_ours(folder: Path) -> None:
    """Every page's head is garbled in turn, which sends LMDB wherever it says."""
    kill_a_user(folder)
    whole = (folder / "data.mdb").read_bytes()
    found = 0
    for page in range(2, len(whole) // PAGE_BYTES):
        garbled = bytearray(whole)
        garbled[page * PAGE_BYTES + 10 : page * PAGE_BYTES + 64] = b"\xff" * 54
        (folder / "data.mdb").write_bytes(garbled)
        try:
            environment = acquire(folder, MIB)
        except IndexDamaged:
            found += 1
        else:
            assert count(environment) == 501  # a page that is free
            release(environment)
            (folder / SUM_FILE).unlink()
            (folder / "data.mdb").write_bytes(whole)
    assert found >= 5


def test_a_file_in_use_is_not_looked_at(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = lmdb_check.FileCheck(folder)
    held.share()

    def walks(_: Path) -> bool:
        raise AssertionError("looked")

    monkeypatch.setattr(lmdb_check, "_walks", walks)
    assert not (folder / SUM_FILE).exists()
    environment = acquire(folder, MIB)
    assert count(environment) == 500
    release(environment)
    assert not (folder / SUM_FILE).exists()
    held.close()


_WRITE_AND_DIE = """
import os, sys
from pathlib import Path
from headrace_namespace.metadata.lmdb_env import acquire
environment = acquire(Path(sys.argv[1]), 1 << 20)
with (Path(sys.argv[1]) / "data.mdb").open("r+b") as file:
    file.seek(-4096, 2)  # as LMDB does, before it commits: pages that nobody refers to yet
    file.write(bytes(4096))
os.kill(os.getpid(), 9)
"""


def test_who_dies_before_committing_leaves_no_damage(folder: Path) -> None:
    """The number of the last transaction is the same, and the bytes of free pages are others."""
    environment = acquire(folder, MIB)
    database = environment.database("things")
    with environment.write() as txn:
        txn.drop(database, delete=False)
    release(environment)
    assert (folder / SUM_FILE).exists()
    done = subprocess.run([sys.executable, "-c", _WRITE_AND_DIE, str(folder)])
    assert done.returncode == -9
    environment = acquire(folder, MIB)
    assert not (folder / SUM_FILE).exists()
    assert count(environment) == 0
    release(environment)


def _cut_record(environment: SharedEnvironment) -> None:
    database = environment.database("things")
    with environment.read() as txn:
        struct.unpack("<Q", txn.get(b"000001", db=database) or b"")


def _broken_page(environment: SharedEnvironment) -> None:
    """Found by LMDB itself, in a file that another one has garbled meanwhile."""
    whole = (environment.path / "data.mdb").read_bytes()
    with (environment.path / "data.mdb").open("r+b") as file:
        for page in range(2, len(whole) // PAGE_BYTES):
            file.seek(page * PAGE_BYTES + 10)
            file.write(b"\xff\x00")
    count(environment)


@pytest.mark.parametrize("find", [_cut_record, _broken_page])
def test_what_is_found_in_use_is_told_to_who_opens_next(
    folder: Path, find: Callable[[SharedEnvironment], None]
) -> None:
    environment = acquire(folder, MIB)
    with pytest.raises(IndexDamaged):
        find(environment)
    assert (folder / DOUBT_FILE).exists()
    release(environment)
    with pytest.raises(IndexDamaged, match="in use"):
        acquire(folder, MIB)
    forget_file(folder)
    environment = acquire(folder, MIB)
    assert count(environment) == 0
    release(environment)


def test_only_a_file_that_nobody_uses_is_set_aside(folder: Path) -> None:
    environment = acquire(folder, MIB)
    assert not set_aside(folder)
    release(environment)
    assert set_aside(folder)
    assert (folder / "data.mdb.damaged").exists()
    environment = acquire(folder, MIB)
    assert count(environment) == 0
    release(environment)


@pytest.mark.parametrize("instead", [None, b""])
def test_a_file_that_is_gone_is_told_and_not_taken_for_a_new_one(
    folder: Path, instead: bytes | None
) -> None:
    (folder / "data.mdb").unlink()
    if instead is not None:
        (folder / "data.mdb").write_bytes(instead)
    with pytest.raises(IndexDamaged, match="gone"):
        acquire(folder, MIB)


@pytest.mark.parametrize("name", ["data.mdb", "lock.mdb"])
def test_a_pipe_in_a_files_place_is_not_waited_for(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(IndexDamaged, match=f"{name} is no file"):
        acquire(folder, MIB)
    forget_file(folder)
    release(acquire(folder, MIB))


@pytest.mark.parametrize("left", [b"", b"garbage", bytes(40)])
def test_a_sum_that_cannot_be_read_costs_a_walk(folder: Path, left: bytes) -> None:
    (folder / SUM_FILE).write_bytes(left)
    environment = acquire(folder, MIB)
    assert count(environment) == 500
    release(environment)


def test_what_cannot_walk_is_no_damage(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that is not Python, or none: the file is opened as it is."""
    for program in ("/bin/false", "", "/nowhere"):
        (folder / SUM_FILE).unlink(missing_ok=True)
        monkeypatch.setattr(sys, "executable", program)
        environment = acquire(folder, MIB)
        assert count(environment) == 500
        release(environment)


def test_a_folder_that_cannot_be_written_keeps_no_sum(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = acquire(folder, MIB)
    put(environment, 1)

    def full(*_: object, **__: object) -> int:
        raise OSError("full")

    monkeypatch.setattr(Path, "write_bytes", full)
    release(environment)
    monkeypatch.undo()
    environment = acquire(folder, MIB)
    assert count(environment) == 500
    release(environment)
    with pytest.raises(IndexFault):
        count(environment)


def test_a_file_that_ends_before_pages_that_were_taken_and_freed_is_whole(tmp_path: Path) -> None:
    """LMDB does not write those: of 534 healthy files 69 were taken for cut short."""
    chance = random.Random(3)
    short = 0
    for number in range(60):
        folder = tmp_path / f"{number}"
        environment = acquire(folder, 64 * MIB)
        database = environment.database("things")
        keys: list[bytes] = []
        for _ in range(chance.randrange(1, 6)):
            with environment.write() as txn:
                new = [chance.randbytes(20) for _ in range(chance.randrange(1, 600))]
                for key in new:
                    txn.put(key, bytes(24), db=database)
                keys += new
                if chance.random() < 0.5:
                    chance.shuffle(keys)
                    for key in keys[: len(keys) * 3 // 4]:
                        txn.delete(key, db=database)
                    keys = keys[len(keys) * 3 // 4 :]
        release(environment)
        again = lmdb.open(str(folder), readonly=True, lock=False, max_dbs=4)
        pages = int(again.info()["last_pgno"]) + 1
        short += (folder / "data.mdb").stat().st_size < pages * int(again.stat()["psize"])
        again.close()
        if number % 2:  # as after a kill
            (folder / SUM_FILE).unlink()
        environment = acquire(folder, 64 * MIB)
        assert count(environment) == len(keys)
        release(environment)
    assert short  # else nothing was tried


def test_a_sum_that_another_leaves_as_we_come_is_taken_away(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is killed while it writes changes free pages: an old sum would call that damage."""
    first = lmdb_check.FileCheck(folder)
    assert first.alone
    left = (folder / lmdb_check.SUM_FILE).read_bytes()

    def last_user_leaves(_: float) -> None:
        (folder / lmdb_check.SUM_FILE).write_bytes(left)
        first.close()

    monkeypatch.setattr("headrace_namespace.metadata.lmdb_check.time.sleep", last_user_leaves)
    second = lmdb_check.FileCheck(folder)
    assert not (folder / lmdb_check.SUM_FILE).exists()
    second.close()


def test_damage_is_told_to_those_who_start_at_the_same_time(folder: Path) -> None:
    flip(folder, 3 * PAGE_BYTES, 0)
    with pytest.raises(IndexDamaged):
        acquire(folder, MIB)
    other = lmdb_check.FileCheck(folder)
    other.share()
    with pytest.raises(IndexDamaged, match="damaged in use"):
        acquire(folder, MIB)
    other.close()
    assert lmdb_check.set_aside(folder)
    release(acquire(folder, MIB))
