"""What was purged cannot be opened by anybody, at no time and from no process."""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headrace_cache.extents.page import PageId
from headrace_cache.policy.scope import Scope
from headrace_cache.tiers.protocol import PageTier
from headrace_cache.tiers.ssd.folder import OpenFolder
from headrace_cache.tiers.ssd.keyring import Keys
from headrace_cache.tiers.ssd.own_segment import OwnSegment
from headrace_cache.tiers.ssd.records import Place, ScopeRecord
from headrace_cache.tiers.ssd.segments import SegmentReader
from headrace_namespace.metadata.lmdb_env import IndexFull
from headrace_namespace.path import NamespacePath
from headrace_namespace.resolution import Name
from tests.cache.tiers.ssd_attacker import Attacker, words_in
from tests.cache.tiers.ssd_pages import (
    BOTH,
    COVERED,
    LENGTH,
    OPEN,
    SECRET,
    STAYING,
    covers_hr,
    fill,
    served,
)
from tests.cache.tiers.ssd_world import MIB, SsdWorld
from tests.conformance.page_tier_suite import (
    loaded,
    random_page,
    scope_of,
    stored,
    version,
)


@pytest.fixture
def world(tmp_path: Path) -> SsdWorld:
    return SsdWorld(tmp_path, 16 * MIB)


@pytest.fixture
def tier(world: SsdWorld) -> Iterator[PageTier]:
    tier = world.open()
    fill(tier)
    yield tier
    tier.close()


def test_a_purge_destroys_what_it_covers_and_nothing_else(world: SsdWorld, tier: PageTier) -> None:
    before = Attacker(world)
    assert all(before.opens(page) for page in (*COVERED, *STAYING))
    key = world.key_file.read_bytes()
    old_file = os.open(world.key_file, os.O_RDONLY)
    report = tier.purge(covers_hr)
    assert report is not None
    assert (set(report.scopes), report.objects, report.bytes) == ({SECRET}, 3, 6 * LENGTH)
    assert report.verified and "crypto-erase" in report.method
    assert served(tier, COVERED) == 0 and served(tier, STAYING) == len(STAYING)
    assert tier.usage().objects == 3
    after = Attacker(world, thorough=True)
    assert not any(after.opens(page) for page in COVERED)
    assert all(after.opens(page) for page in STAYING)
    # The old key is nowhere, and where it was is what is there now.
    assert world.key_file.read_bytes() == os.pread(old_file, 100, 0) != key
    os.close(old_file)
    assert os.listdir(world.key_file.parent) == [world.key_file.name]
    assert words_in(world.root, key) == []


def test_a_purge_that_covers_nothing_changes_nothing(world: SsdWorld, tier: PageTier) -> None:
    key = world.key_file.read_bytes()
    assert tier.purge(lambda _: False) is None
    assert world.key_file.read_bytes() == key
    assert tier.purge(covers_hr) is not None
    assert tier.purge(covers_hr) is None


def test_what_was_purged_stays_so_over_a_restart(world: SsdWorld, tier: PageTier) -> None:
    tier.purge(covers_hr)
    tier.close()
    again = world.open()
    assert served(again, COVERED) == 0 and served(again, STAYING) == len(STAYING)
    again.close()


def test_what_was_forgotten_before_is_purged_too(world: SsdWorld, tier: PageTier) -> None:
    """LMDB keeps copies of what was deleted: a forgotten object's scope must still be found."""
    for number in range(3):
        tier.forget(version(number))
    assert served(tier, COVERED) == 0
    assert any(Attacker(world).opens(page) for page in COVERED)
    report = tier.purge(covers_hr)
    assert report is not None and (report.objects, report.bytes) == (0, 0)
    assert not any(Attacker(world).opens(page) for page in COVERED)
    assert served(tier, STAYING) == len(STAYING)


@pytest.mark.parametrize("forgotten", [False, True])
@pytest.mark.parametrize("rule", ["/lake/hr", "/x/hr"])
def test_an_object_reached_by_more_names_since_is_purged_by_any_of_them(
    world: SsdWorld, tier: PageTier, rule: str, forgotten: bool
) -> None:
    page = COVERED[0]
    stored(tier, PageId(version(60), 0), b"an older object of that scope", BOTH)
    if forgotten:
        tier.forget(page.version)
        stored(tier, page, random_page(page, LENGTH), BOTH)
    # By another name than the first: what was stored under that one alone lies about on the disk.
    stored(tier, page, random_page(page, LENGTH), scope_of("/x/hr"))
    assert loaded(tier, page, LENGTH) == random_page(page, LENGTH)
    report = tier.purge(lambda scope: any(name.path.text == rule for name in scope.folders))
    assert report is not None and BOTH in report.scopes
    assert loaded(tier, page, LENGTH) is None
    assert not Attacker(world).opens(page)
    assert served(tier, STAYING) == len(STAYING)


def test_a_wider_scope_is_kept_when_the_object_comes_by_one_of_its_names(
    world: SsdWorld, tier: PageTier
) -> None:
    page = PageId(version(50), 0)
    stored(tier, page, random_page(page, LENGTH), BOTH)
    for index in range(1, 3):
        stored(tier, PageId(version(50), index), b"more", SECRET)
    report = tier.purge(lambda scope: scope == BOTH)
    assert report is not None and (report.objects, report.bytes) == (1, LENGTH + 8)
    assert served(tier, STAYING) == len(STAYING)


def test_an_object_of_very_many_names_is_purged_by_any_of_them(
    world: SsdWorld, tier: PageTier
) -> None:
    page = COVERED[0]
    names = [f"/lake/{number}" for number in range(8)]
    stored(tier, page, random_page(page, LENGTH), scope_of("/lake/hr", *names))
    assert tier.purge(lambda scope: scope_of(names[-1]).folders <= scope.folders) is not None
    assert not Attacker(world).opens(page)
    assert served(tier, STAYING) == len(STAYING)


def test_names_are_in_no_file(world: SsdWorld) -> None:
    tags = frozenset({"secret-tag"})
    mount = NamespacePath("/secret-mount")
    names = [Name(NamespacePath("/secret-mount/secret-folder\udcff"), mount, tags)]
    names.append(Name(NamespacePath("/another-folder"), None, None))
    scope = Scope(frozenset(names))
    tier = world.open()
    stored(tier, COVERED[0], random_page(COVERED[0], LENGTH), scope)
    words = (b"secret", b"another", b"folder")
    assert words_in(world.root, *words) == []
    report = tier.purge(lambda known: known == scope)
    assert report is not None and set(report.scopes) == {scope}
    tier.close()
    assert words_in(world.root, *words) == []


def test_a_load_that_was_reading_when_the_purge_returned_serves_nothing_of_it(
    tier: PageTier, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = SegmentReader.read

    def read(reader: SegmentReader, segment: int, offset: int, target: memoryview) -> bool:
        monkeypatch.undo()
        assert tier.purge(covers_hr) is not None
        return real(reader, segment, offset, target)

    monkeypatch.setattr(SegmentReader, "read", read)
    pages = [(page, memoryview(bytearray(LENGTH))) for page in (COVERED[0], STAYING[0])]
    assert tier.load(pages) == [False, True]


def test_a_store_that_was_sealing_when_the_purge_returned_brings_no_old_key_back(
    world: SsdWorld, tier: PageTier, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = OwnSegment.append

    def append(segment: OwnSegment, sealed: memoryview, plain: int) -> Place | None:
        monkeypatch.undo()
        assert tier.purge(covers_hr) is not None
        return real(segment, sealed, plain)

    monkeypatch.setattr(OwnSegment, "append", append)
    more = [PageId(page.version, 9) for page in (COVERED[0], STAYING[0])]
    for page, scope in zip(more, (SECRET, OPEN), strict=True):
        stored(tier, page, random_page(page, LENGTH), scope)
    assert served(tier, more) == 2 and served(tier, COVERED) == 0
    attacker = Attacker(world)
    assert not any(attacker.opens(page) for page in COVERED)


def test_a_scope_that_cannot_be_read_goes_too(world: SsdWorld, tier: PageTier) -> None:
    folder = opened(tier)
    with folder.environment.write() as txn:
        for number, record in folder.tables.all_scopes(txn):
            record.sealed = bytes(len(record.sealed))
            folder.tables.put_scope(txn, number, record)
    report = tier.purge(lambda _: False)
    assert report is not None and (report.scopes, report.objects) == ((), 6)
    assert not any(Attacker(world).opens(page) for page in (*COVERED, *STAYING))


def test_where_the_index_has_no_room_for_what_stays_all_goes(
    world: SsdWorld, tier: PageTier, monkeypatch: pytest.MonkeyPatch
) -> None:

    def full(keys: Keys, number: int, scope: Scope, key: bytes) -> ScopeRecord:
        raise IndexFull("full")

    monkeypatch.setattr(Keys, "seal", full)
    report = tier.purge(covers_hr)
    assert report is not None and report.verified
    assert served(tier, COVERED) == served(tier, STAYING) == 0
    assert not any(Attacker(world).opens(page) for page in (*COVERED, *STAYING))
    monkeypatch.undo()
    fill(tier)
    assert served(tier, COVERED) == len(COVERED)


def opened(tier: PageTier) -> OpenFolder:
    folder = vars(tier)["_folder"]
    assert isinstance(folder, OpenFolder)
    return folder


def test_scopes_without_objects_are_cleared_out(world: SsdWorld) -> None:
    """Each folder leaves a scope; they must not fill the index."""
    tier = world.open()
    key = world.key_file.read_bytes()
    for number in range(400):
        page = PageId(version(number), 0)
        stored(tier, page, b"x" * 100, scope_of(f"/lake/{number}"))
        if number >= 5:
            tier.forget(page.version)
    folder = opened(tier)
    with folder.environment.read() as txn:
        totals = folder.tables.scope_totals(txn)
        scopes = folder.tables.all_scopes(txn)
    assert len(scopes) == totals.scopes < 300
    assert sum(not record.objects for _, record in scopes) == totals.empty
    assert totals.objects == tier.usage().objects == 5
    assert world.key_file.read_bytes() != key
    for number in range(5):
        assert loaded(tier, PageId(version(number), 0), 100) == b"x" * 100
    tier.close()


def test_a_folder_for_each_object_does_not_stop_the_tier(world: SsdWorld) -> None:
    """The index fills with scopes, which leave only when the key is changed."""
    tier = world.open()
    pages = [PageId(version(number), 0) for number in range(8000)]
    for start in range(0, len(pages), 200):
        batch = pages[start : start + 200]
        tier.store_each(
            [(p, memoryview(b"x" * 200), scope_of(f"/lake/{p.version.hex()}")) for p in batch]
        )
        assert any(tier.holds(page) for page in batch)
        assert world.bytes_on_disk() <= world.limit_bytes
    held = [page for page in pages if tier.holds(page)]
    assert len(held) == tier.usage().objects > 300
    assert all(loaded(tier, page, 200) == b"x" * 200 for page in held)
    last = scope_of(f"/lake/{held[-1].version.hex()}")
    report = tier.purge(lambda scope: scope == last)
    assert report is not None and report.objects == 1
    assert sum(tier.holds(page) for page in held) >= len(held) - 1
    tier.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system for the key file alone; needs to mount one."""
    place = tmp_path / "keys"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def _read_only(place: Path) -> Callable[[Path], object]:
    subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
    return lambda place: subprocess.run(["mount", "-o", "remount,rw", str(place)], check=True)


def _full(place: Path) -> Callable[[Path], object]:
    with (place / "rest").open("wb", buffering=0) as file, pytest.raises(OSError):
        while True:
            file.write(bytes(4096))
    return lambda place: (place / "rest").unlink()


def _exchanged(place: Path) -> Callable[[Path], object]:
    key = (place / "ssd.key").read_bytes()
    (place / "ssd.key").write_bytes(os.urandom(32))
    return lambda place: (place / "ssd.key").write_bytes(key)


@pytest.mark.parametrize("trouble", [_read_only, _full, _exchanged])
def test_a_purge_that_cannot_be_done_says_so_and_turns_the_tier_off(
    small_disk: Path,
    tmp_path: Path,
    trouble: Callable[[Path], Callable[[Path], object]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = SsdWorld(tmp_path, 16 * MIB)
    tier = world.open()
    fill(tier)
    mend = trouble(small_disk)
    with pytest.raises(OSError, match="could not be purged and is off") as caught:
        tier.purge(covers_hr)
    assert str(tmp_path) in str(caught.value)
    assert served(tier, COVERED) == served(tier, STAYING) == 0
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert tier.usage().limit == 0
    with pytest.raises(OSError, match="could not be purged and is off"):
        tier.purge(lambda _: False)
    mend(small_disk)
    # What the failed one should have purged is known to nobody any more: so all goes.
    report = tier.purge(lambda _: False)
    assert report is not None and report.verified and report.objects == 6
    assert not any(Attacker(world).opens(page) for page in (*COVERED, *STAYING))
    fill(tier)
    assert served(tier, COVERED) == len(COVERED)
    tier.close()
    with pytest.raises(OSError, match="closed or off"):
        tier.purge(covers_hr)


def test_a_disk_that_was_full_at_a_purge_does_not_keep_the_folder_from_being_opened(
    small_disk: Path, tmp_path: Path
) -> None:
    world = SsdWorld(tmp_path, 16 * MIB)
    tier = world.open()
    fill(tier)
    _full(small_disk)
    with pytest.raises(OSError, match="could not be purged"):
        tier.purge(covers_hr)
    tier.close()
    tier = world.open()
    assert served(tier, COVERED) == len(COVERED)
    assert not world.key_file.with_name("ssd.key.next").exists()
    tier.close()


def test_what_lies_in_a_folder_that_cannot_be_opened_cannot_be_purged(
    world: SsdWorld, tier: PageTier, caplog: pytest.LogCaptureFixture
) -> None:
    world.key_file.write_bytes(os.urandom(32))
    stranger = world.open()
    with pytest.raises(OSError, match="earlier run"):
        stranger.purge(covers_hr)
    assert "is off" in caplog.text


def test_a_folder_started_anew_has_a_new_key(
    world: SsdWorld, tier: PageTier, caplog: pytest.LogCaptureFixture
) -> None:
    """What was cleared away may lie on the disk, and no later purge would know of it."""
    tier.close()
    key = world.key_file.read_bytes()
    (world.folder / "index" / "data.mdb").write_bytes(os.urandom(100_000))
    world.open().close()
    assert "starts empty" in caplog.text
    assert world.key_file.read_bytes() != key
