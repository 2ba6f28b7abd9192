"""Every file of the cache, state and key folders, damaged in every way: what is read is right, no
process hangs or dies, and what was lost is said once, in one sentence."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lmdb
import pytest

from headrace_cache.tiers.ssd.records import FORMAT, FORMAT_KEY, META
from tests.crash.folder_audit import faults
from tests.crash.nursery import Nursery
from tests.crash.site import Site
from tests.effort import EFFORT

FILES = ["open/0", "open/4", "open/8", "mine/1", "mine/5", "hr/2"]
#: Of the damages in CI every so many; with an effort of this all.
STRIDE = 9
FLIPS = 4

Damage = Callable[[Path, random.Random], None]


def _flipped(path: Path, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    if data:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    _overwrite(path, bytes(data))


def _emptied(path: Path, _: random.Random) -> None:
    os.truncate(path, 0)


def _halved(path: Path, _: random.Random) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _one_less(path: Path, _: random.Random) -> None:
    os.truncate(path, max(0, path.stat().st_size - 1))


def _zeroed(path: Path, _: random.Random) -> None:
    _overwrite(path, bytes(path.stat().st_size))


def _grown(path: Path, chance: random.Random) -> None:
    _overwrite(path, path.read_bytes() + chance.randbytes(5000))


def _garbled(path: Path, chance: random.Random) -> None:
    _overwrite(path, chance.randbytes(path.stat().st_size))


def _deleted(path: Path, _: random.Random) -> None:
    path.unlink()


def _folder_instead(path: Path, _: random.Random) -> None:
    path.unlink()
    path.mkdir(mode=0o700)


def _pipe_instead(path: Path, _: random.Random) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def _swapped(path: Path, _: random.Random) -> None:
    """With the next file of its folder."""
    others = sorted(other for other in path.parent.iterdir() if other.is_file())
    other = others[(others.index(path) + 1) % len(others)]
    spare = path.with_name("spare")
    path.rename(spare)
    other.rename(path)
    spare.rename(other)


def _overwrite(path: Path, data: bytes) -> None:
    with path.open("r+b") as file:
        file.write(data)


DAMAGES: list[Damage] = [
    *([_flipped] * FLIPS),
    _emptied,
    _halved,
    _one_less,
    _zeroed,
    _grown,
    _garbled,
    _deleted,
    _folder_instead,
    _pipe_instead,
    _swapped,
]


class World:
    """A folder that was filled and closed in order, and copies of it to damage."""

    def __init__(self, root: Path, nursery: Nursery) -> None:
        self.root = root
        self.nursery = nursery
        self.site = Site(root / "world")
        self.spare = root / "spare"
        self.site.root.mkdir()
        self.site.make(FILES)
        assert self.read()["warnings"] == []
        shutil.copytree(self.site.root, self.spare)
        self.files = sorted(
            path.relative_to(self.site.root)
            for folder in (self.site.cache, self.site.state, self.site.key_file.parent)
            for path in folder.rglob("*")
            if path.is_file()
        )

    def renew(self) -> None:
        """As it was; the sources keep their times and inodes, which are their version."""
        for folder in ("cache", "state", "keys"):
            shutil.rmtree(self.site.root / folder)
            shutil.copytree(self.spare / folder, self.site.root / folder)

    def read(self) -> dict[str, Any]:
        """A fresh process reads all; what it saw."""
        report = self.root / "report.json"
        report.unlink(missing_ok=True)
        child = self.nursery.start("check", str(self.site.root), str(report), FILES)
        status = self.nursery.wait(child)
        assert status == 0
        told: dict[str, Any] = json.loads(report.read_text())
        assert told["wrong"] == []
        return told


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    nursery = Nursery()
    yield World(tmp_path_factory.mktemp("damage"), nursery)
    nursery.close()


def test_an_undamaged_world_is_served_from_the_ssd(world: World) -> None:
    world.renew()
    restricted = (world.site.source / "hr/2").stat().st_size
    assert world.read()["fetched"] == restricted
    assert faults(world.site) == []


@pytest.mark.timeout(180 * EFFORT)
def test_every_file_in_every_way(world: World) -> None:
    chance = random.Random(6)
    cases = [(file, damage) for file in world.files for damage in DAMAGES]
    assert len(world.files) >= 12
    stride = max(1, STRIDE // EFFORT)
    for file, damage in cases[chance.randrange(stride) :: stride]:
        case = f"{file} {damage.__name__}"
        world.renew()
        damage(world.site.root / file, chance)
        try:
            first = world.read()
            second = world.read()
        except AssertionError as error:
            raise AssertionError(f"{case}: {error}") from error
        if os.environ.get("HEADRACE_TEST_TELL"):
            print(case, first, second)
        if file.name == "ssd.key" and "refused" in first:
            # It could be somebody's file, which a configuration names by mistake.
            assert "not a key" in first["refused"] or "not a regular file" in first["refused"]
            continue
        assert len(first["warnings"]) <= 1, (case, first["warnings"])
        if damage not in (_folder_instead, _pipe_instead):
            # Mended, and not said again.
            assert second["warnings"] == [], (case, second["warnings"])
            assert second["fetched"] <= world.site.source.joinpath("hr/2").stat().st_size, case
        assert len(second["warnings"]) <= 1, (case, second["warnings"])


@pytest.mark.parametrize("version", [FORMAT - 1, FORMAT + 1])
def test_an_index_of_another_version_is_started_anew(world: World, version: int) -> None:
    world.renew()
    index = world.site.cache / "index"
    with lmdb.open(str(index), max_dbs=12) as environment:
        meta = environment.open_db(META.encode())
        with environment.begin(write=True) as txn:
            txn.put(FORMAT_KEY, version.to_bytes(4, "little"), db=meta)
    # As a program of that version leaves it.
    (index / "data.sum").unlink()
    (warning,) = world.read()["warnings"]
    assert "starts empty: it was written by another version" in warning
    told = world.read()
    assert told["warnings"] == []
    assert told["fetched"] == (world.site.source / "hr/2").stat().st_size
    assert faults(world.site) == []


def test_a_key_of_another_folder_is_told(world: World) -> None:
    world.renew()
    world.site.key_file.write_bytes(os.urandom(32))
    (warning,) = world.read()["warnings"]
    assert "another key" in warning
    assert world.read()["warnings"] == []
    assert faults(world.site) == []
