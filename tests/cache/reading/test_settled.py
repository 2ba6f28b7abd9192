"""What an earlier open settled is used again only while all that it followed from still holds."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace_cache.limits import PolicySource
from headrace_cache.reading import settled
from headrace_cache.reading.settled import Settled
from headrace_namespace.errors import IsFolder, NotFound, PolicyDenied
from headrace_namespace.freshness import PINNED, Freshness
from headrace_namespace.observing import LINKS_SECONDS
from headrace_namespace.path import NamespacePath
from headrace_namespace.roots import ROOTS_SECONDS
from tests.fakes.folder_rig import FolderRig
from tests.fakes.local_cache import path, whole

#: Nobody may read below `/hr`, by whatever name.
POLICY = """
version = 1
[[rule]]
name = "hr"
match.path = ["/hr/**"]
apply.persistence = "deny"
"""


@pytest.fixture
def silo(tmp_path: Path) -> Path:
    for name in ("lake", "hr"):
        (tmp_path / name).mkdir()
    return tmp_path


@pytest.fixture
def rig(silo: Path) -> Iterator[FolderRig]:
    rig = FolderRig(
        {},
        policy=PolicySource(POLICY, "the test's policy"),
        folders={"/lake": silo / "lake", "/hr": silo / "hr"},
    )
    yield rig
    rig.service.close()


def write(file: Path, text: str) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)


def read(rig: FolderRig, name: str, freshness: Freshness | None = None) -> str:
    opened = rig.service.open(path(name), freshness)
    try:
        return whole(opened).decode()
    finally:
        opened.close()


def stats(rig: FolderRig) -> int:
    return rig.service.status().requests["/lake"].get("stat", 0)


def test_each_open_under_check_asks_once(rig: FolderRig, silo: Path) -> None:
    write(silo / "lake/a", "a")
    for opens in range(1, 6):
        assert read(rig, "/lake/a") == "a"
        assert stats(rig) == opens


def test_an_open_of_a_pinned_file_looks_at_its_name_alone(rig: FolderRig, silo: Path) -> None:
    write(silo / "lake/a", "a")
    assert read(rig, "/lake/a") == "a"
    write(silo / "lake/a", "another")
    for opens in range(1, 6):
        assert read(rig, "/lake/a", PINNED) == "a"
        assert stats(rig) == 1 + opens
    assert read(rig, "/lake/a") == "another"


def test_an_age_is_kept_to(rig: FolderRig, silo: Path) -> None:
    write(silo / "lake/a", "a")
    assert read(rig, "/lake/a") == "a"
    write(silo / "lake/a", "another")
    rig.clock.time += 29
    assert read(rig, "/lake/a", Freshness(30)) == "a"
    rig.clock.time += 2
    assert read(rig, "/lake/a", Freshness(30)) == "another"


def test_every_change_is_seen_by_the_next_open(rig: FolderRig, silo: Path) -> None:
    file = silo / "lake/a"
    for text in ("one", "two", "three"):
        write(file, text)  # in place
        assert read(rig, "/lake/a") == text
    write(silo / "lake/new", "renamed")
    os.replace(silo / "lake/new", file)
    assert read(rig, "/lake/a") == "renamed"
    file.unlink()
    with pytest.raises(NotFound):
        rig.service.open(path("/lake/a"))
    file.mkdir()
    with pytest.raises(IsFolder):
        rig.service.open(path("/lake/a"))
    file.rmdir()
    write(file, "again")
    assert read(rig, "/lake/a") == "again"


def test_a_switched_link_is_followed_at_once(rig: FolderRig, silo: Path) -> None:
    for day in ("monday", "tuesday"):
        write(silo / "lake" / day / "x", day)
    for day in ("monday", "tuesday", "monday"):
        (silo / "lake/link").unlink(missing_ok=True)
        (silo / "lake/link").symlink_to(day)
        (silo / "lake/file").unlink(missing_ok=True)
        (silo / "lake/file").symlink_to(f"{day}/x")
        for _ in range(2):
            assert read(rig, "/lake/link/x") == day
            assert read(rig, "/lake/file") == day


def test_what_becomes_a_link_is_followed_at_once_also_where_objects_are_pinned(
    rig: FolderRig, silo: Path
) -> None:
    for day in ("monday", "tuesday"):
        write(silo / "lake" / day / "x", day)
    (silo / "lake/link").symlink_to("monday")
    write(silo / "lake/file", "plain")
    held = [rig.service.open(path(name), PINNED) for name in ("/lake/link/x", "/lake/file")]
    assert (
        read(rig, "/lake/link/x", PINNED) == "monday" and read(rig, "/lake/file", PINNED) == "plain"
    )
    for name, target in (("link", "tuesday"), ("file", "tuesday/x")):
        (silo / "lake" / name).unlink()
        (silo / "lake" / name).symlink_to(target)
    assert read(rig, "/lake/link/x", PINNED) == read(rig, "/lake/file", PINNED) == "tuesday"
    for handle in held:
        handle.close()


def test_a_file_that_becomes_a_link_is_judged_at_once_by_where_it_leads(
    rig: FolderRig, silo: Path
) -> None:
    write(silo / "lake/a", "a")
    assert read(rig, "/lake/a") == "a"
    (silo / "lake/a").rename(silo / "hr/a")
    (silo / "lake/a").symlink_to(silo / "hr/a")
    with pytest.raises(PolicyDenied):
        rig.service.open(path("/lake/a"))


def test_a_folder_that_becomes_a_link_is_judged_within_a_second_by_where_it_leads(
    rig: FolderRig, silo: Path
) -> None:
    write(silo / "lake/d/a", "a")
    write(silo / "lake/d/b", "b")
    read(rig, "/lake/d/a")
    rig.clock.time += 10  # a first look at the policy lies behind: it changes nothing any more
    assert read(rig, "/lake/d/a") == "a" and read(rig, "/lake/d/b") == "b"
    (silo / "lake/d").rename(silo / "hr/d")
    (silo / "lake/d").symlink_to(silo / "hr/d")
    rig.clock.time += LINKS_SECONDS + 0.001
    for name in ("a", "b"):
        for freshness in (None, PINNED):
            with pytest.raises(PolicyDenied):
                rig.service.open(path(f"/lake/d/{name}"), freshness)


def test_another_mount_that_leads_to_its_folder_is_seen_a_second_later(silo: Path) -> None:
    (silo / "way").symlink_to("hr")
    rig = FolderRig(
        {},
        policy=PolicySource(POLICY, "the test's policy"),
        folders={"/lake": silo / "lake", "/hr": silo / "way"},
    )
    write(silo / "lake/one/a", "1")
    write(silo / "lake/two/a", "2")
    assert read(rig, "/lake/one/a") == "1"
    rig.clock.time += 10  # a first look at the policy lies behind: it changes nothing any more
    assert read(rig, "/lake/one/a") == "1"
    (silo / "way").unlink()
    (silo / "way").symlink_to("lake")  # so that all of it is `/hr` too
    rig.clock.time += 0.9 * ROOTS_SECONDS
    assert read(rig, "/lake/two/a") == "2"  # nobody knows yet
    rig.clock.time += 0.1 * ROOTS_SECONDS + 0.001
    for name in ("one", "two"):
        with pytest.raises(PolicyDenied):
            rig.service.open(path(f"/lake/{name}/a"))
    rig.service.close()


def test_the_links_of_a_folder_are_looked_at_once_for_all_its_files(
    rig: FolderRig, silo: Path
) -> None:
    for number in range(20):
        write(silo / f"lake/d/{number}", str(number))
    for _ in range(3):
        rig.clock.time += 10 * LINKS_SECONDS
        before = stats(rig)
        for number in range(20):
            assert read(rig, f"/lake/d/{number}") == str(number)
        assert stats(rig) == before + 20


def test_the_asked_spelling_takes_the_place_of_the_other_when_it_comes(
    rig: FolderRig, silo: Path
) -> None:
    composed, decomposed = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))
    write(silo / "lake" / composed, "composed")
    for _ in range(2):
        assert read(rig, f"/lake/{decomposed}") == "composed"
    write(silo / "lake" / decomposed, "decomposed")
    assert read(rig, f"/lake/{decomposed}") == "decomposed"
    assert read(rig, f"/lake/{composed}") == "composed"


def test_no_more_is_remembered_than_the_bound(
    rig: FolderRig, silo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settled, "MOST_SETTLED", 3)
    mounts, policy = rig.namespace.mounted(), rig.watch.now
    known = Settled(rig.namespace, mounts, policy)
    reader, held = rig.service.reader(), list[object]()
    names = [path(f"/lake/{number}") for number in range(10)]
    for name in names:
        write(silo / name.text[1:], name.text)
        pinned, one = reader.open(name)
        held.append(one)  # else nothing would be left to remember
        known.settle(rig.namespace.resolve(name), pinned, one)
        assert known.again(name, None) == (pinned, one)
    assert sum(known.again(name, None) is not None for name in names) <= 3


def test_what_another_policy_judged_is_not_remembered(rig: FolderRig, silo: Path) -> None:
    write(silo / "lake/a", "a")
    name = NamespacePath("/lake/a")
    pinned, held = rig.service.reader().open(name)
    known = Settled(rig.namespace, rig.namespace.mounted(), object())
    known.settle(rig.namespace.resolve(name), pinned, held)
    assert known.again(name, None) is None
