from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headrace_namespace.metadata.ledger import (
    Ledger,
    LmdbLedger,
    MemoryLedger,
    open_ledger,
)


@pytest.fixture(params=["lmdb", "memory"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    made: Ledger = LmdbLedger(tmp_path) if request.param == "lmdb" else MemoryLedger()
    yield made
    made.close()


def test_what_was_written_is_read(ledger: Ledger) -> None:
    book = ledger.book("mounts")
    with book.write() as page:
        page.put(b"b", b"2")
        page.put(b"a", b"1")
    with book.read() as page:
        assert page.get(b"a") == b"1"
        assert page.get(b"c") is None
        assert list(page.items()) == [(b"a", b"1"), (b"b", b"2")]
    with ledger.book("mounts").write() as page:
        assert page.delete(b"a")
        assert not page.delete(b"a")
    with book.read() as page:
        assert list(page.items()) == [(b"b", b"2")]


def test_books_are_apart(ledger: Ledger) -> None:
    with ledger.book("one").write() as page:
        page.put(b"key", b"1")
    with ledger.book("two").read() as page:
        assert page.get(b"key") is None


def test_each_change_is_counted(ledger: Ledger) -> None:
    book = ledger.book("mounts")
    assert book.generation() == 0
    for count in (1, 2):
        with book.write() as page:
            page.put(b"key", b"value")
        assert book.generation() == count


def test_a_block_that_raises_writes_nothing(ledger: Ledger) -> None:
    book = ledger.book("mounts")
    with pytest.raises(RuntimeError, match="stop"), book.write() as page:
        page.put(b"key", b"value")
        raise RuntimeError("stop")
    assert book.generation() == 0
    with book.read() as page:
        assert page.get(b"key") is None


def _write_in_another_process(folder: Path) -> None:
    ledger = LmdbLedger(folder)
    with ledger.book("mounts").write() as page:
        page.put(b"theirs", b"1")
    ledger.close()


def test_another_process_sees_it_at_once(tmp_path: Path) -> None:
    ledger = LmdbLedger(tmp_path)
    book = ledger.book("mounts")
    other = multiprocessing.get_context("spawn").Process(
        target=_write_in_another_process, args=(tmp_path,)
    )
    other.start()
    other.join()
    assert book.generation() == 1
    with book.read() as page:
        assert page.get(b"theirs") == b"1"
    ledger.close()


def test_a_folder_that_cannot_be_made_costs_the_keeping_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_bytes(b"")
    ledger = open_ledger(tmp_path / "file" / "ledger")
    assert not ledger.lasts
    assert "cannot be kept" in caplog.text
    with ledger.book("mounts").write() as page:
        page.put(b"key", b"value")


def _flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def _halve(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize("damage", [_flip, _halve])
def test_a_damaged_ledger_is_set_aside_and_said_once(
    tmp_path: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    ledger = open_ledger(tmp_path)
    with ledger.book("mounts").write() as page:
        page.put(b"a", b"1")
    ledger.close()
    damage(tmp_path / "data.mdb")
    damaged = (tmp_path / "data.mdb").read_bytes()
    for _ in range(2):
        ledger = open_ledger(tmp_path)
        assert ledger.lasts
        with ledger.book("mounts").read() as page:
            assert page.get(b"a") is None
        ledger.close()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert (tmp_path / "data.mdb.damaged").read_bytes() == damaged
