from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from headrace_cache.tiers.ssd.folder import OpenFolder, open_folder
from headrace_cache.tiers.ssd.index import Entry, Notes, ObjectKey
from headrace_cache.tiers.ssd.key_swap import KeyFile
from headrace_cache.tiers.ssd.limits import limits_of
from headrace_cache.tiers.ssd.records import ObjectRecord, Place
from headrace_namespace.clock import SystemClock
from tests.conformance.page_tier_suite import FOLDER

OBJECT = b"o" * 16
SCOPES = {OBJECT: FOLDER}
OURS = ObjectKey(b"k" * 32, False)
THEIRS = ObjectKey(b"t" * 32, False)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[OpenFolder]:
    opened = open_folder(
        tmp_path,
        limits_of(16 << 20, 1 << 20),
        KeyFile(tmp_path.parent / "key", tmp_path),
        SystemClock(),
    )
    yield opened
    opened.close()


@pytest.fixture
def segment(folder: OpenFolder) -> Iterator[int]:
    with folder.environment.write() as txn:
        writer = folder.space.open_segment(txn, 100)
    assert writer is not None
    yield writer.segment
    writer.close()


def entry(segment: int, index: int) -> Entry:
    return Entry(OBJECT, index, Place(segment, index * 100, 100, 36, 7))


def test_a_page_sealed_under_a_losing_key_is_refused(folder: OpenFolder, segment: int) -> None:
    assert folder.index.enter([entry(segment, 0)], {OBJECT: THEIRS}, SCOPES, Notes()) == []
    late = entry(segment, 1)
    assert folder.index.enter([late], {OBJECT: OURS}, SCOPES, Notes()) == [late]
    survey = folder.index.survey([(OBJECT, 0), (OBJECT, 1)])
    assert survey.places == [entry(segment, 0).place, None]
    assert survey.objects[OBJECT].data_key(OBJECT) == THEIRS.data_key


def test_a_key_that_was_forgotten_does_not_come_back(folder: OpenFolder, segment: int) -> None:
    assert folder.index.enter([entry(segment, 0)], {OBJECT: OURS}, SCOPES, Notes()) == []
    folder.index.forget(OBJECT)
    late = entry(segment, 1)
    assert folder.index.enter(
        [late], {OBJECT: ObjectKey(OURS.data_key, True)}, SCOPES, Notes()
    ) == [late]
    assert folder.index.usage().objects == 0


def test_a_page_whose_segment_left_is_refused(folder: OpenFolder, segment: int) -> None:
    stays, lost = entry(segment, 0), entry(segment + 1, 1)
    assert folder.index.enter([stays, lost], {OBJECT: OURS}, SCOPES, Notes()) == [lost]
    assert folder.index.survey([(OBJECT, 0), (OBJECT, 1)]).places == [stays.place, None]


def test_pages_left_over_without_a_key_are_replaced(folder: OpenFolder, segment: int) -> None:
    """As a process leaves them that dies while it forgets a large object."""
    assert folder.index.enter([entry(segment, 0)], {OBJECT: THEIRS}, SCOPES, Notes()) == []
    with folder.environment.write() as txn:
        folder.tables.put_object(txn, OBJECT, ObjectRecord(1, 0, b""))  # without pages: taken out
    ours = Entry(OBJECT, 0, Place(segment, 500, 100, 36, 7))
    assert folder.index.enter([ours], {OBJECT: OURS}, SCOPES, Notes()) == []
    survey = folder.index.survey([(OBJECT, 0)])
    assert survey.places == [ours.place]
    assert survey.objects[OBJECT].data_key(OBJECT) == OURS.data_key
    assert folder.index.forget(OBJECT) == ours.place.plain


def test_forgetting_what_is_not_known_waits_for_no_writer(folder: OpenFolder, segment: int) -> None:
    assert folder.index.enter([entry(segment, 0)], {OBJECT: OURS}, SCOPES, Notes()) == []
    with ThreadPoolExecutor(1) as pool:
        with folder.environment.write():
            forgetting = pool.submit(folder.index.forget, b"u" * 16)
            assert forgetting.result(timeout=30) == 0
        assert pool.submit(folder.index.forget, OBJECT).result() == 36


def test_the_first_of_two_equal_pages_stays(folder: OpenFolder, segment: int) -> None:
    first, second = entry(segment, 0), Entry(OBJECT, 0, Place(segment, 500, 100, 36, 7))
    assert folder.index.enter([first], {OBJECT: OURS}, SCOPES, Notes()) == []
    assert folder.index.enter([second], {OBJECT: OURS}, SCOPES, Notes()) == []
    assert folder.index.survey([(OBJECT, 0)]).places == [first.place]
