from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from headrace_namespace.metadata import lmdb_env
from headrace_namespace.metadata.lmdb_env import (
    LOCK_FILE_BYTES,
    IndexDamaged,
    IndexFault,
    IndexFull,
    SharedEnvironment,
    acquire,
    release,
)

MIB = 1 << 20


def put(environment: SharedEnvironment, key: bytes, value: bytes) -> None:
    database = environment.database("things")
    with environment.write() as txn:
        txn.put(key, value, db=database)


def get(environment: SharedEnvironment, key: bytes) -> bytes | None:
    database = environment.database("things")
    with environment.read() as txn:
        return txn.get(key, db=database)


def test_one_environment_per_real_path(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "env")
    first = acquire(tmp_path / "env", MIB)
    second = acquire(tmp_path / "link", MIB)
    assert first is second
    release(first)
    put(second, b"a", b"1")
    release(second)
    with pytest.raises(IndexFault, match="closed"):
        get(second, b"a")
    third = acquire(tmp_path / "env", MIB)
    assert get(third, b"a") == b"1"
    release(third)


def test_files_are_for_this_user_and_the_lock_file_is_as_stated(tmp_path: Path) -> None:
    environment = acquire(tmp_path / "env", MIB)
    put(environment, b"a", b"1")
    for path in [tmp_path / "env", *(tmp_path / "env").iterdir()]:
        assert path.stat().st_mode & 0o077 == 0
    assert (tmp_path / "env" / "lock.mdb").stat().st_size <= LOCK_FILE_BYTES
    release(environment)


def test_what_fails_within_is_not_written(tmp_path: Path) -> None:
    environment = acquire(tmp_path / "env", MIB)
    put(environment, b"a", b"1")
    database = environment.database("things")
    with pytest.raises(KeyError), environment.write() as txn:
        txn.put(b"a", b"2", db=database)
        raise KeyError
    assert get(environment, b"a") == b"1"
    release(environment)


def test_a_full_map_is_told_apart(tmp_path: Path) -> None:
    environment = acquire(tmp_path / "env", MIB)
    with pytest.raises(IndexFull):
        put(environment, b"a", bytes(2 * MIB))
    put(environment, b"a", b"1")
    assert get(environment, b"a") == b"1"
    release(environment)


def test_garbage_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "data.mdb").write_bytes(os.urandom(50_000))
    with pytest.raises(IndexDamaged):
        acquire(tmp_path / "env", MIB)


def test_a_cut_file_is_noticed(tmp_path: Path) -> None:
    environment = acquire(tmp_path / "env", MIB)
    put(environment, b"a", bytes(100_000))
    release(environment)
    os.truncate(tmp_path / "env" / "data.mdb", 8192)
    with pytest.raises(IndexDamaged, match="changed while nobody used it"):
        acquire(tmp_path / "env", MIB)


_GROW = """
import sys
from pathlib import Path
from headrace_namespace.metadata.lmdb_env import acquire, release
environment = acquire(Path(sys.argv[1]), 1 << 26)
database = environment.database("things")
with environment.write() as txn:
    txn.put(b"big", bytes(1 << 23), db=database)
release(environment)
"""


def test_a_map_that_another_process_grew_is_followed(tmp_path: Path) -> None:
    environment = acquire(tmp_path / "env", MIB)
    put(environment, b"a", b"1")
    stop = threading.Event()
    wrong: list[BaseException] = []

    def read() -> None:
        try:
            while not stop.is_set():
                assert get(environment, b"a") == b"1"
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    subprocess.run([sys.executable, "-c", _GROW, str(tmp_path / "env")], check=True)
    assert get(environment, b"big") == bytes(1 << 23)
    put(environment, b"b", b"2")
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    release(environment)


_HANG = """
import os, sys
from pathlib import Path
from headrace_namespace.metadata.lmdb_env import acquire
environment = acquire(Path(sys.argv[1]), 1 << 20)
transactions = [environment.read() for _ in range(5)]
for transaction in transactions:
    transaction.__enter__()
os.kill(os.getpid(), 9)
"""


def test_readers_of_killed_processes_are_cleared(tmp_path: Path) -> None:
    environment = acquire(tmp_path / "env", MIB)
    put(environment, b"a", b"1")
    process = subprocess.run([sys.executable, "-c", _HANG, str(tmp_path / "env")])
    assert process.returncode == -9
    assert environment.clear_dead_readers() == 5
    assert environment.clear_dead_readers() == 0
    release(environment)


# Python 3.12 warns of what is tested here: forking where other threads run.
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_child_opens_its_own_while_the_parent_writes(tmp_path: Path) -> None:
    environment = acquire(tmp_path / "env", MIB)
    put(environment, b"a", b"1")
    database = environment.database("things")
    with environment.write() as txn:
        txn.put(b"b", b"2", db=database)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                with pytest.raises(IndexFault):
                    get(environment, b"a")
                own = acquire(tmp_path / "env", MIB)
                database = own.database  # not called: the parent holds the write lock
                assert own is not environment and database is not None
                release(environment)
                release(own)
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert get(environment, b"b") == b"2"
    release(environment)


# Python 3.12 warns of what is tested here: forking where other threads run.
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_fork_waits_for_threads_that_are_inside(tmp_path: Path) -> None:
    """Closing an environment that a lost thread is committing to would hang the child."""
    environment = acquire(tmp_path / "env", MIB)
    database = environment.database("things")
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            with environment.write() as txn:
                txn.put(b"%d" % (number % 1000), bytes(100), db=database)

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    statuses: list[int] = []
    for _ in range(20):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                own = acquire(tmp_path / "env", MIB)
                put(own, b"child", b"was here")
                release(own)
                status = 0
            finally:
                os._exit(status)
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    stop.set()
    for thread in threads:
        thread.join()
    assert statuses == [0] * 20
    assert get(environment, b"child") == b"was here"
    release(environment)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_child_does_without_where_a_thread_cannot_come_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lmdb_env, "FORK_WAIT_SECONDS", 0.1)
    environment = acquire(tmp_path / "env", MIB)
    database = environment.database("things")

    def write() -> None:
        with environment.write() as txn:
            txn.put(b"a", b"1", db=database)

    thread = threading.Thread(target=write)
    with environment.write():
        thread.start()
        while len(environment.threads_inside()) < 2:
            os.sched_yield()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                acquire(tmp_path / "env", MIB)
            except IndexFault:
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    thread.join()
    assert get(environment, b"a") == b"1"
    release(environment)
