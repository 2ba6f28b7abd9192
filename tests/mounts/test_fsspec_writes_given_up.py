"""Files closed by what wraps them, and files of transactions: never half an object."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace_mounts.connect import disconnect_all
from tests.untyped import fsspec, pa, pq


@pytest.fixture
def silo(tmp_path: Path) -> Path:
    (tmp_path / "silo").mkdir()
    (tmp_path / "silo" / "a").write_bytes(b"old")
    return tmp_path / "silo"


@pytest.fixture
def config(tmp_path: Path, silo: Path) -> Iterator[dict[str, object]]:
    cache = {"folder": str(tmp_path / "cache"), "memory": "64MiB", "ssd": "0"}
    keys = {"key_file": str(tmp_path / "keys" / "key")}
    yield {"mount": [{"path": "/lake", "url": str(silo)}], "cache": cache | keys}
    disconnect_all()


@pytest.fixture
def tree(config: dict[str, object]) -> Any:
    return fsspec.filesystem("headrace", config=config, skip_instance_cache=True)


@contextlib.contextmanager
def of_generator(tree: Any) -> Generator[Any]:
    file = tree.open("/lake/a", "wb")
    try:
        yield file
    finally:
        file.close()


def wrapped(kind: str, tree: Any, url: Any) -> Any:
    if kind == "url":
        return url.open()
    if kind == "generator":
        return of_generator(tree)
    file = tree.open("/lake/a", "wb")
    if kind == "closing":
        return contextlib.closing(file)
    return io.TextIOWrapper(file) if kind == "text" else io.BufferedWriter(file)


@pytest.mark.parametrize("kind", ["closing", "text", "buffered", "url", "generator"])
@pytest.mark.parametrize("fails", [True, False])
def test_an_error_gives_up_what_a_wrapper_closes(
    tree: Any, config: dict[str, object], silo: Path, kind: str, fails: bool
) -> None:
    url = fsspec.open("headrace:///lake/a", "w", config=config)
    with contextlib.suppress(RuntimeError), wrapped(kind, tree, url) as file:
        text = isinstance(file, io.TextIOBase)
        file.write("x" * 100_000 if text else b"x" * 100_000)
        if fails:
            raise RuntimeError
    assert (silo / "a").read_bytes() == (b"old" if fails else b"x" * 100_000)


def test_a_parquet_writer_that_fails_leaves_what_was_there(tree: Any, silo: Path) -> None:
    table = pa.table({"n": range(1000)})
    with (
        pytest.raises(RuntimeError),
        pq.ParquetWriter("/lake/a", table.schema, filesystem=tree) as writer,
    ):
        writer.write_table(table)
        raise RuntimeError
    assert (silo / "a").read_bytes() == b"old"
    with pq.ParquetWriter("/lake/a", table.schema, filesystem=tree) as writer:
        writer.write_table(table)
    assert pq.read_table("/lake/a", filesystem=tree).num_rows == 1000


def test_a_report_of_an_error_is_written(tree: Any, silo: Path) -> None:
    class Reporting:
        def __enter__(self) -> None: ...

        def __exit__(self, *error: object) -> None:
            file = tree.open("/lake/report", "wb")
            file.write(b"failed")
            file.close()

    with pytest.raises(RuntimeError), Reporting():
        raise RuntimeError
    assert (silo / "report").read_bytes() == b"failed"
    try:
        raise RuntimeError
    except RuntimeError:
        file = tree.open("/lake/a", "wb")
        file.write(b"on purpose")
        file.close()
    assert (silo / "a").read_bytes() == b"on purpose"


def test_a_transaction_leaves_out_what_was_given_up(tree: Any, silo: Path) -> None:
    with tree.transaction:
        tree.pipe_file("/lake/b", b"b")
        with contextlib.suppress(RuntimeError), tree.open("/lake/a", "wb") as file:
            file.write(b"half")
            raise RuntimeError
        tree.pipe_file("/lake/c", b"c")
    assert (silo / "a").read_bytes() == b"old"
    assert sorted(os.listdir(silo)) == ["a", "b", "c"]


def test_a_transaction_refuses_what_is_still_open(tree: Any, silo: Path) -> None:
    with pytest.raises(ValueError, match="close it before"), tree.transaction:
        file = tree.open("/lake/a", "w")
        file.write("in the wrapper's buffer")
        tree.pipe_file("/lake/c", b"c")
    assert (silo / "a").read_bytes() == b"old"
    assert os.listdir(silo) == ["a"]
