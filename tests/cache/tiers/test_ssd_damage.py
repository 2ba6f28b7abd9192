"""Whatever happens to the folder, what is served is right, and the tier goes on."""

from __future__ import annotations

import errno
import logging
import os
import random
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headrace_cache.extents.page import PageId
from headrace_cache.tiers.off_tier import OffTier
from headrace_cache.tiers.ssd.records import FORMAT_KEY, META, SEGMENTS
from headrace_cache.tiers.ssd.records import PAGES as PLACES
from headrace_cache.tiers.ssd.tables import Tables
from headrace_cache.tiers.ssd.tier import QUIET_SECONDS
from headrace_namespace.metadata import lmdb_env
from tests.cache.tiers.ssd_world import MIB, SsdWorld
from tests.conformance.page_tier_suite import FOLDER, loaded, random_page, stored, version
from tests.fakes.clock import ManualClock

PAGES = [PageId(version(number), index) for number in range(6) for index in range(4)]
LENGTH = 150_000


@pytest.fixture
def world(tmp_path: Path) -> SsdWorld:
    """A folder that holds `PAGES`, with nobody using it."""
    world = SsdWorld(tmp_path)
    tier = world.open()
    for page in PAGES:
        stored(tier, page, random_page(page, LENGTH))
    tier.close()
    return world


def served(world: SsdWorld) -> int:
    """How many pages are served, all of them right; and each can be stored again."""
    tier = world.open()
    right = 0
    for page in PAGES:
        data = loaded(tier, page, LENGTH)
        assert data in (None, random_page(page, LENGTH))
        right += data is not None
    tier.flush()
    for page in PAGES:
        stored(tier, page, random_page(page, LENGTH))
    for page in PAGES:
        assert loaded(tier, page, LENGTH) == random_page(page, LENGTH)
    tier.close()
    return right


def test_an_undamaged_folder_serves_all(world: SsdWorld) -> None:
    assert served(world) == len(PAGES)


def test_flipped_bits_are_found(world: SsdWorld, caplog: pytest.LogCaptureFixture) -> None:
    chance = random.Random(3)
    for segment in world.segments():
        data = bytearray(segment.read_bytes())
        for _ in range(3):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        segment.write_bytes(data)
    assert 0 < served(world) < len(PAGES)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


@pytest.mark.parametrize("field", range(36 + 12))
def test_every_header_byte_is_checked(tmp_path: Path, field: int) -> None:
    world = SsdWorld(tmp_path)
    page = PageId(version(1), 3)
    tier = world.open()
    stored(tier, page, random_page(page, 1000))
    (segment,) = world.segments()
    with segment.open("r+b") as file:
        file.seek(field)
        byte = file.read(1)[0]
        file.seek(field)
        file.write(bytes([byte ^ 1]))
    assert loaded(tier, page, 1000) is None
    assert not tier.holds(page)
    tier.close()


def test_cut_segments_are_found(world: SsdWorld) -> None:
    for segment in world.segments():
        os.truncate(segment, segment.stat().st_size // 2)
    assert 0 < served(world) < len(PAGES)


def test_swapped_segments_are_found(world: SsdWorld) -> None:
    first, second = world.segments()[:2]
    spare = first.with_name("spare")
    first.rename(spare)
    second.rename(first)
    spare.rename(second)
    assert served(world) < len(PAGES)


def test_deleted_segments_are_misses(world: SsdWorld) -> None:
    gone = world.segments()[0]
    gone.unlink()
    assert 0 < served(world) < len(PAGES)


def test_a_segment_deleted_under_an_open_tier_is_a_miss(world: SsdWorld) -> None:
    tier = world.open()
    for segment in world.segments():
        segment.unlink()
    assert [loaded(tier, page, LENGTH) for page in PAGES] == [None] * len(PAGES)
    tier.flush()
    assert not any(tier.holds(page) for page in PAGES)
    tier.close()


def test_strange_files_in_pages_are_left_or_swept(world: SsdWorld) -> None:
    orphan = world.folder / "pages" / "seg-00000000000000ff.sealed"
    orphan.write_bytes(b"x" * 1000)
    foreign = world.folder / "pages" / "notes.txt"
    foreign.write_text("not ours")
    assert served(world) == len(PAGES)
    assert not orphan.exists()
    assert foreign.read_text() == "not ours"


def _format_changed(world: SsdWorld) -> None:
    environment = lmdb_env.acquire(world.folder / "index", MIB)
    meta = environment.database(META)
    with environment.write() as txn:
        txn.put(FORMAT_KEY, b"\xff\0\0\0", db=meta)
    lmdb_env.release(environment)


def _records_garbled(world: SsdWorld) -> None:
    environment = lmdb_env.acquire(world.folder / "index", MIB)
    segments = environment.database(SEGMENTS)
    with environment.write() as txn:
        txn.put(b"\0" * 8, b"too short", db=segments)
    lmdb_env.release(environment)


def _key_lost(world: SsdWorld) -> None:
    world.key_file.unlink()


def _key_replaced(world: SsdWorld) -> None:
    world.key_file.write_bytes(os.urandom(32))


def _index_garbage(world: SsdWorld) -> None:
    (world.folder / "index" / "data.mdb").write_bytes(os.urandom(100_000))


def _index_cut(world: SsdWorld) -> None:
    os.truncate(world.folder / "index" / "data.mdb", 8192)


def _index_head_flipped(world: SsdWorld) -> None:
    with (world.folder / "index" / "data.mdb").open("r+b") as file:
        file.write(b"\0" * 64)
        file.seek(4096)
        file.write(b"\0" * 64)


DAMAGES = [
    _format_changed,
    _records_garbled,
    _key_lost,
    _key_replaced,
    _index_garbage,
    _index_cut,
    _index_head_flipped,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_cannot_be_read_is_started_anew_and_said_once(
    world: SsdWorld, damage: Callable[[SsdWorld], None], caplog: pytest.LogCaptureFixture
) -> None:
    before = set(world.segments())
    damage(world)
    assert served(world) == 0
    assert not before & set(world.segments()) or len(before) == len(world.segments())
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "starts empty" in caplog.text
    caplog.clear()
    assert served(world) == len(PAGES)
    assert caplog.records == []


def test_a_folder_in_the_place_of_a_coming_segment_is_passed_by(
    world: SsdWorld, caplog: pytest.LogCaptureFixture
) -> None:
    last = max(int(path.stem[4:], 16) for path in (world.folder / "pages").iterdir())
    shutil.rmtree(world.folder / "pages")
    for number in (last + 1, last + 2):
        (world.folder / "pages" / f"seg-{number:016x}.sealed" / "kept").mkdir(parents=True)
    tier = world.open()
    page = PageId(version(1000), 0)
    stored(tier, page, random_page(page, 1000))
    assert loaded(tier, page, 1000) == random_page(page, 1000)
    tier.close()
    assert "failed" not in caplog.text
    assert (world.folder / "pages" / f"seg-{last + 1:016x}.sealed" / "kept").is_dir()


def test_an_index_that_is_gone_is_a_new_one_and_said(
    world: SsdWorld, caplog: pytest.LogCaptureFixture
) -> None:
    key = world.key_file.read_bytes()
    shutil.rmtree(world.folder / "index")
    assert served(world) == 0
    assert world.bytes_on_disk() < world.limit_bytes
    assert "starts empty: its index is gone" in caplog.text
    # No purge would find the pages that the lost index knew.
    assert world.key_file.read_bytes() != key


def test_wrong_sums_in_the_index_are_counted_anew(world: SsdWorld) -> None:
    """Else the bound would be broken, or nothing kept for ever."""
    for wrong in (0, 1 << 40):
        environment = lmdb_env.acquire(world.folder / "index", MIB)
        tables = Tables(environment)
        with environment.write() as txn:
            totals = tables.totals(txn)
            reserved, written, totals.reserved, totals.written = (
                totals.reserved,
                totals.written,
                wrong,
                wrong,
            )
            tables.put_totals(txn, totals)
        lmdb_env.release(environment)
        assert served(world) == len(PAGES)
        environment = lmdb_env.acquire(world.folder / "index", MIB)
        tables = Tables(environment)
        with environment.read() as txn:
            totals = tables.totals(txn)
            assert (totals.reserved, totals.written) == (reserved, written)
        lmdb_env.release(environment)


def test_a_record_that_cannot_be_taken_apart_is_no_error_of_the_reader(
    world: SsdWorld, caplog: pytest.LogCaptureFixture
) -> None:
    tier = world.open()
    environment = lmdb_env.acquire(world.folder / "index", MIB)
    pages = environment.database(PLACES)
    with environment.write() as txn:
        for key, _ in list(txn.cursor(db=pages)):
            txn.put(key, b"too short", db=pages)
    lmdb_env.release(environment)
    assert [loaded(tier, page, LENGTH) for page in PAGES] == [None] * len(PAGES)
    tier.close()
    assert served(world) == 0
    assert ["it is off" in r.message or "starts empty" in r.message for r in caplog.records] == [
        True,
        True,
    ]
    caplog.clear()
    assert served(world) == len(PAGES)
    assert caplog.records == []


@pytest.mark.parametrize("damage", [_key_replaced, _key_lost])
def test_another_key_does_not_empty_a_folder_in_use(
    world: SsdWorld, damage: Callable[[SsdWorld], None], caplog: pytest.LogCaptureFixture
) -> None:
    user = world.open()
    right_key = world.key_file.read_bytes()
    damage(world)
    stranger = world.open()
    assert isinstance(stranger, OffTier)
    assert "in use by another process" in caplog.text
    for page in PAGES:
        assert loaded(user, page, LENGTH) == random_page(page, LENGTH)
    user.close()
    world.key_file.write_bytes(right_key)
    world.key_file.chmod(0o600)
    assert served(world) == len(PAGES)


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 20 MiB; needs to mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_is_said_once_and_passed_over(
    full_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = SsdWorld(full_disk, 64 * MIB)
    clock = ManualClock()
    tier = world.open(clock)
    pages = [PageId(version(number), 0) for number in range(60)]
    for page in pages:
        stored(tier, page, random_page(page, MIB))
        clock.sleep(QUIET_SECONDS)
    kept = [page for page in pages if loaded(tier, page, MIB) == random_page(page, MIB)]
    assert 10 < len(kept) < 20
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert os.strerror(errno.ENOSPC) in caplog.text
    for page in kept[:10]:
        assert tier.forget(page.version) == MIB
    assert [loaded(tier, page, MIB) is not None for page in kept[10:]] == [True] * len(kept[10:])
    tier.close()


def test_a_file_too_large_is_passed_over(world: SsdWorld, caplog: pytest.LogCaptureFixture) -> None:
    """The same without root: the system refuses to let any file grow."""
    clock = ManualClock()
    tier = world.open(clock)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    page = PageId(version(77), 0)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        stored(tier, page, random_page(page, MIB))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert loaded(tier, page, MIB) is None
    assert loaded(tier, PAGES[0], LENGTH) == random_page(PAGES[0], LENGTH)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    # A segment whose making failed is not written to either.
    clock.sleep(QUIET_SECONDS)
    stored(tier, page, random_page(page, MIB))
    assert loaded(tier, page, MIB) == random_page(page, MIB)
    tier.close()


def test_what_was_written_before_a_failure_is_kept(tmp_path: Path) -> None:
    tier = SsdWorld(tmp_path, 64 * MIB).open()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    pages = [PageId(version(number), 0) for number in range(4)]
    resource.setrlimit(resource.RLIMIT_FSIZE, (5 * MIB // 2, before[1]))
    try:
        tier.store([(page, memoryview(random_page(page, MIB))) for page in pages], FOLDER)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [tier.holds(page) for page in pages] == [True, True, False, False]
    tier.close()


def test_a_page_found_broken_is_kept_when_it_is_stored_next(world: SsdWorld) -> None:
    for segment in world.segments():
        os.truncate(segment, 0)
    tier = world.open()
    for page in PAGES:
        assert loaded(tier, page, LENGTH) is None
        stored(tier, page, random_page(page, LENGTH))
        assert loaded(tier, page, LENGTH) == random_page(page, LENGTH)
    tier.close()


def test_nothing_is_written_to_a_segment_that_was_deleted(tmp_path: Path) -> None:
    world = SsdWorld(tmp_path)
    tier = world.open()
    stored(tier, PAGES[0], random_page(PAGES[0], LENGTH))
    (segment,) = world.segments()
    segment.unlink()
    for page in PAGES[1:]:
        stored(tier, page, random_page(page, LENGTH))
        assert loaded(tier, page, LENGTH) == random_page(page, LENGTH)
    tier.close()


def test_a_read_only_folder_turns_the_tier_off(
    full_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = SsdWorld(full_disk, 16 * MIB)
    world.open().close()
    subprocess.run(["mount", "-o", "remount,ro", str(full_disk)], check=True)
    tier = world.open()
    assert isinstance(tier, OffTier)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert os.strerror(errno.EROFS) in caplog.text
