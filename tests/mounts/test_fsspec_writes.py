"""Writing through fsspec and `headrace.open`: whole or not at all, and read back at once."""

from __future__ import annotations

import asyncio
import gc
import gzip
import io
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import headrace
from headrace_mounts.connect import connect, disconnect_all
from headrace_namespace.path import NamespacePath
from tests.untyped import fsspec, np, pa, pd, pq


def path(text: str) -> NamespacePath:
    return NamespacePath.parse(text)


# One file.


@pytest.mark.parametrize("size", [0, 1, 3_000_000, 8 << 20, (20 << 20) + 3])
def test_what_is_written_is_there_and_warm(tree: Any, silo: Path, size: int) -> None:
    data = os.urandom(size)
    with tree.open("/lake/sub/a.bin", "wb") as file:
        for start in range(0, size, 1_000_001):
            assert file.tell() == start
            piece = data[start : start + 1_000_001]
            assert file.write(piece) == len(piece)
        assert not (silo / "sub" / "a.bin").exists()
    assert (silo / "sub" / "a.bin").read_bytes() == data
    with tree.open("/lake/sub/a.bin") as opened:
        assert opened.version == file.version == tree.info("/lake/sub/a.bin")["version"]
        assert opened.read() == data
    assert tree.service.status().bytes_fetched == 0


def test_any_buffer_is_written(tree: Any) -> None:
    numbers = np.arange(12, dtype="int32").reshape(3, 4)
    pieces = [b"a", bytearray(b"b"), memoryview(b"c"), pa.py_buffer(b"d"), numbers]
    with tree.open("/lake/a", "wb") as file:
        assert [file.write(piece) for piece in pieces] == [1, 1, 1, 1, 48]
        file.flush()
        assert file.writable() and not file.readable() and not file.seekable()
    assert tree.cat_file("/lake/a") == b"abcd" + numbers.tobytes()
    with pytest.raises(ValueError, match="closed"):
        file.write(b"x")
    file.close()


def test_text_and_compression_are_written_as_fsspec_does(
    tree: Any, config: dict[str, object], silo: Path
) -> None:
    with tree.open("/lake/a.txt", "w") as file:
        file.write("caf\u00e9\n")
    with tree.open("/lake/a.txt", "a") as file:
        file.write("more\n")
    assert (silo / "a.txt").read_text("utf-8") == "caf\u00e9\nmore\n"
    with tree.open("/lake/b.gz", "wt", compression="infer", encoding="latin-1") as file:
        file.write("caf\u00e9" * 1000)
    assert gzip.decompress((silo / "b.gz").read_bytes()) == "caf\u00e9".encode("latin-1") * 1000
    with tree.open("/lake/b.gz", "rt", compression="infer", encoding="latin-1") as file:
        assert file.read(4) == "caf\u00e9"
    with fsspec.open("headrace:///lake/c.gz", "wb", compression="gzip", config=config) as file:
        file.write(b"x" * 1000)
    assert gzip.decompress((silo / "c.gz").read_bytes()) == b"x" * 1000


def test_modes_mean_what_they_mean_everywhere(tree: Any, silo: Path) -> None:
    with tree.open("/lake/a", "xb") as file:
        file.write(b"one")
    with pytest.raises(FileExistsError):
        tree.open("/lake/a", "xb")
    with tree.open("/lake/a", "ab") as file:
        assert file.tell() == 3
        file.write(b"two")
    assert (silo / "a").read_bytes() == b"onetwo"
    with tree.open("/lake/a", "wb") as file:
        file.write(b"three")
    assert (silo / "a").read_bytes() == b"three"
    with pytest.raises(IsADirectoryError):
        tree.open("/lake", "wb")
    with pytest.raises(FileNotFoundError, match="no mount"):
        tree.open("/pond/a", "wb")
    for mode in ("r+b", "wr", "q", "wz"):
        with pytest.raises((ValueError, OSError)):
            tree.open("/lake/a", mode).read()


def test_an_error_inside_the_with_leaves_what_was_there(tree: Any, silo: Path) -> None:
    (silo / "a").write_bytes(b"old")
    for mode, compression in (("wb", None), ("w", None), ("wb", "gzip"), ("w", "gzip")):
        with (
            pytest.raises(RuntimeError),
            tree.open("/lake/a", mode, compression=compression) as file,
        ):
            file.write("x" * 100_000 if mode == "w" else b"x" * 100_000)
            raise RuntimeError
        assert (silo / "a").read_bytes() == b"old"
    assert os.listdir(silo) == ["a"]


@pytest.mark.parametrize("compression", [None, "gzip"])
@pytest.mark.parametrize("mode", ["wb", "wt"])
def test_an_error_inside_fsspec_open_leaves_what_was_there(
    tree: Any, config: dict[str, object], silo: Path, mode: str, compression: str | None
) -> None:
    (silo / "a").write_bytes(b"old")
    opener = fsspec.open("headrace:///lake/a", mode, compression=compression, config=config)
    with pytest.raises(RuntimeError), opener as file:
        file.write("x" * 100_000 if mode == "wt" else b"x" * 100_000)
        raise RuntimeError
    assert (silo / "a").read_bytes() == b"old"
    try:
        raise RuntimeError
    except RuntimeError:
        with opener as file:  # while an error is handled, on purpose
            file.write("new" if mode == "wt" else b"new")
    assert (silo / "a").read_bytes() != b"old"


def test_pandas_that_fails_half_way_leaves_what_was_there(
    tree: Any, config: dict[str, object], silo: Path
) -> None:
    (silo / "a.csv").write_bytes(b"old")

    class Bad:
        def __str__(self) -> str:
            raise RuntimeError("cannot be written")

    frame = pd.DataFrame({"n": [*range(200_000), Bad()]})
    with pytest.raises(RuntimeError):
        frame.to_csv("headrace:///lake/a.csv", storage_options={"config": config})
    assert (silo / "a.csv").read_bytes() == b"old"


def test_a_forgotten_file_is_never_committed(tree: Any, silo: Path) -> None:
    for mode in ("wb", "w"):
        file = tree.open("/lake/a", mode)
        file.write("x" * 10 if mode == "w" else b"x" * 10)
        del file
        gc.collect()
    tree.service.close()
    assert os.listdir(silo) == []


def test_if_version_lets_one_of_two_writers_win(tree: Any, silo: Path) -> None:
    tree.pipe_file("/lake/a", b"old")
    version = tree.info("/lake/a")["version"]
    files = [tree.open("/lake/a", "wb", if_version=version) for _ in range(2)]
    won: list[int] = []
    lost: list[int] = []

    def end(number: int) -> None:
        try:
            files[number].close()
            won.append(number)
        except headrace.WriteConflict:
            lost.append(number)

    for number, file in enumerate(files):
        file.write(b"writer %d" % number)
    threads = [threading.Thread(target=end, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 1)
    assert (silo / "a").read_bytes() == b"writer %d" % won[0]
    with pytest.raises(headrace.WriteConflict):
        tree.open("/lake/a", "wb", if_version=version)
    with pytest.raises(ValueError, match="mode w"):
        tree.open("/lake/a", "ab", if_version=version)


def test_headrace_open_writes(config: dict[str, object]) -> None:
    written: Any = headrace.open("/lake/a", "w", config=config)
    with written as file:
        file.write("hello")
    version: str = written.version
    with headrace.open("/lake/a", "ab", config=config) as file:
        file.write(b" world")
    with headrace.open("/lake/a", config=config) as file:
        assert file.read() == b"hello world"
    with pytest.raises(headrace.WriteConflict):
        headrace.open("/lake/a", "wb", config=config, if_version=version)
    with pytest.raises(FileExistsError):
        headrace.open("/lake/a", "x", config=config)


def test_a_read_only_mount_is_not_written(tree: Any, silo: Path) -> None:
    (silo / "a").write_bytes(b"old")
    refused: tuple[Callable[[], object], ...] = (
        lambda: tree.open("/fixed/a", "wb"),
        lambda: tree.open("/fixed/a", "ab"),
        lambda: tree.pipe_file("/fixed/new", b"x"),
        lambda: tree.rm("/fixed/a"),
        lambda: tree.mkdir("/fixed/d"),
        lambda: tree.cp_file("/fixed/a", "/fixed/b"),
        lambda: tree.mv("/fixed/a", "/fixed/b"),
    )
    for call in refused:
        with pytest.raises(headrace.ReadOnly, match="read-only"):
            call()
    assert os.listdir(silo) == ["a"]
    with pytest.raises(headrace.ReadOnly, match="mount point"):
        tree.rmdir("/fixed")


# What pandas, pyarrow and others do.


def test_tables_are_written_and_read(tree: Any, config: dict[str, object]) -> None:
    frame = pd.DataFrame({"n": range(1000), "s": [str(n) for n in range(1000)]})
    frame.to_parquet("headrace:///lake/a.parquet", storage_options={"config": config})
    frame.to_csv("headrace:///lake/a.csv.gz", storage_options={"config": config}, index=False)
    for read, name in ((pd.read_parquet, "a.parquet"), (pd.read_csv, "a.csv.gz")):
        back = read(f"headrace:///lake/{name}", storage_options={"config": config})
        assert back["n"].tolist() == list(range(1000))
    table = pa.table({"k": [n % 3 for n in range(90)], "n": range(90)})
    pq.write_to_dataset(table, "/lake/set", partition_cols=["k"], filesystem=tree)
    assert pq.read_table("/lake/set", filesystem=tree).num_rows == 90
    assert sorted(tree.ls("/lake/set", detail=False)) == [f"/lake/set/k={k}" for k in range(3)]


def test_put_file_streams_and_tells_how_far_it_is(tree: Any, tmp_path: Path) -> None:
    data = os.urandom((20 << 20) + 5)
    (tmp_path / "from").write_bytes(data)
    callback = fsspec.callbacks.Callback()
    tree.put_file(str(tmp_path / "from"), "/lake/a", callback=callback)
    assert (callback.size, callback.value) == (len(data), len(data))
    assert tree.cat_file("/lake/a") == data
    with pytest.raises(FileExistsError):
        tree.put_file(str(tmp_path / "from"), "/lake/a", mode="create")


# Transactions.


def test_a_transaction_shows_all_at_its_end(tree: Any, silo: Path) -> None:
    with tree.transaction:
        for name in ("a", "b"):
            with tree.open(f"/lake/{name}", "wb") as file:
                file.write(os.urandom(9 << 20))
        with tree.open("/lake/t.gz", "wt", compression="gzip") as file:
            file.write("text")
        tree.pipe_file("/lake/c", b"c")
        assert [name for name in os.listdir(silo) if not name.startswith(".")] == []
    assert sorted(tree.ls("/lake", detail=False)) == ["/lake/a", "/lake/b", "/lake/c", "/lake/t.gz"]
    assert gzip.decompress((silo / "t.gz").read_bytes()) == b"text"


def test_an_error_in_a_transaction_undoes_all(tree: Any, silo: Path) -> None:
    (silo / "a").write_bytes(b"old")
    with pytest.raises(RuntimeError), tree.transaction:
        tree.pipe_file("/lake/a", b"new")
        with tree.open("/lake/b", "wb") as file:
            file.write(b"new")
        raise RuntimeError
    assert os.listdir(silo) == ["a"]
    assert (silo / "a").read_bytes() == b"old"
    tree.pipe_file("/lake/a", b"after")
    assert (silo / "a").read_bytes() == b"after"


def test_the_coroutines_write_too(config: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / "from").write_bytes(b"from")

    async def work() -> bytes:
        tree = fsspec.filesystem("headrace", config=config, asynchronous=True)
        await tree._makedirs("/lake/d", exist_ok=True)
        await tree._pipe_file("/lake/d/a", b"a")
        await tree._cp_file("/lake/d/a", "/lake/d/b")
        await tree._put_file(str(tmp_path / "from"), "/lake/d/c")
        await tree._rm_file("/lake/d/a")
        found = sorted(await tree._ls("/lake/d", detail=False))
        assert found == ["/lake/d/b", "/lake/d/c"]
        data: bytes = await tree._cat_file("/lake/d/b")
        await tree._rm("/lake/d", recursive=True)
        assert not await tree._exists("/lake/d")
        return data

    assert asyncio.run(work()) == b"a"


# Other processes.


def _reads(config: dict[str, object], go: Any, told: Any) -> None:
    tree = fsspec.filesystem("headrace", config=config)
    while go.recv():
        tree.ls("/lake")
        with tree.open("/lake/a") as file:
            told.send(file.read())
    disconnect_all()


def test_another_process_sees_what_was_written_at_its_next_open(tree: Any, config: Any) -> None:
    spawn = multiprocessing.get_context("spawn")
    go_here, go_there = spawn.Pipe()
    told_here, told_there = spawn.Pipe()
    reader = spawn.Process(target=_reads, args=(config, go_there, told_there))
    reader.start()
    try:
        for number in range(5):
            tree.ls("/lake")
            tree.pipe_file("/lake/a", b"%d" % number * 1000)
            assert tree.cat_file("/lake/a") == b"%d" % number * 1000
            go_here.send(True)
            assert told_here.poll(60)
            assert told_here.recv() == b"%d" % number * 1000
    finally:
        go_here.send(False)
        reader.join(60)


WRITES_AND_WAITS = """
import sys, headrace
config = {"mount": [{"path": "/lake", "url": sys.argv[1]}],
          "cache": {"folder": sys.argv[2], "memory": "64MiB", "ssd": "0", "key_file": sys.argv[3]}}
file = headrace.open("/lake/a", "wb", config=config)
for _ in range(30):
    file.write(b"n" * (1 << 20))
file._writer.finish()
print("sent", flush=True)
sys.stdin.read()
"""


def test_a_killed_writer_leaves_the_old_object_whole(tree: Any, silo: Path, tmp_path: Path) -> None:
    (silo / "a").write_bytes(b"old")
    arguments = [str(silo), str(tmp_path / "cache2"), str(tmp_path / "key2")]
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITES_AND_WAITS, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert writer.stdout is not None and writer.stdin is not None
    assert writer.stdout.readline() == b"sent\n"
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    writer.stdin.close()
    assert tree.cat_file("/lake/a") == b"old"
    assert tree.ls("/lake", detail=False) == ["/lake/a"]
    with tree.open("/lake/a", "wb") as file:
        file.write(b"new")
    assert (silo / "a").read_bytes() == b"new"


WRITES_MUCH = """
import resource, sys, headrace
config = {"mount": [{"path": "/lake", "url": sys.argv[1]}],
          "cache": {"folder": sys.argv[2], "memory": "64MiB", "ssd": "0", "key_file": sys.argv[3]}}
piece = b"n" * (1 << 20)
with headrace.open("/lake/warm-up", "wb", config=config) as file:
    file.write(piece)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with headrace.open("/lake/a", "wb", config=config) as file:
    for _ in range(600):
        file.write(piece)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has another unit elsewhere")
def test_writing_much_takes_little_memory(silo: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            WRITES_MUCH,
            *(str(silo), str(tmp_path / "cache2"), str(tmp_path / "key2")),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (silo / "a").stat().st_size == 600 << 20
    (silo / "a").unlink()
    assert int(done.stdout) < 200  # MiB: the 64 of the tier, and what is under way


def test_io_copyfileobj_between_mounts(tree: Any) -> None:
    import shutil

    tree.pipe_file("/lake/a", os.urandom(3_000_000))
    with tree.open("/lake/a") as source, tree.open("/other/a", "wb") as target:
        shutil.copyfileobj(source, target)
    assert tree.cat_file("/other/a") == tree.cat_file("/lake/a")
    assert isinstance(target, io.BufferedIOBase)
    assert connect(tree._config) is tree.service
