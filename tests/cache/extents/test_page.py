"""Pages cover every byte once; runs keep order and lose nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_cache.extents.page import PAGE_BYTES, page_length, page_range, runs


@pytest.mark.parametrize(
    ("start", "stop", "pages"),
    [
        (0, 0, []),
        (5, 5, []),
        (7, 3, []),
        (0, 1, [0]),
        (0, 10, [0]),
        (0, 11, [0, 1]),
        (9, 10, [0]),
        (9, 11, [0, 1]),
        (10, 20, [1]),
        (10, 21, [1, 2]),
        (35, 36, [3]),
    ],
)
def test_the_pages_of_a_range(start: int, stop: int, pages: list[int]) -> None:
    assert list(page_range(start, stop, 10)) == pages


@pytest.mark.parametrize(
    ("index", "size", "length"), [(0, 25, 10), (1, 25, 10), (2, 25, 5), (0, 10, 10), (0, 3, 3)]
)
def test_the_last_page_may_be_short(index: int, size: int, length: int) -> None:
    assert page_length(index, size, 10) == length


def test_a_page_is_one_mebibyte_unless_said() -> None:
    assert PAGE_BYTES == 1024 * 1024
    assert list(page_range(PAGE_BYTES - 1, PAGE_BYTES + 1)) == [0, 1]
    assert page_length(1, PAGE_BYTES + 3) == 3


@given(st.integers(0, 10_000), st.integers(1, 97))
def test_the_pages_of_an_object_hold_each_byte_once(size: int, page_bytes: int) -> None:
    pages = page_range(0, size, page_bytes)
    lengths = [page_length(index, size, page_bytes) for index in pages]
    assert sum(lengths) == size
    assert all(0 < length <= page_bytes for length in lengths)
    assert all(length == page_bytes for length in lengths[:-1])


@given(st.integers(0, 10_000), st.integers(0, 500), st.integers(1, 97))
def test_a_byte_is_in_its_range_exactly_where_its_page_is(
    start: int, length: int, page_bytes: int
) -> None:
    pages = page_range(start, start + length, page_bytes)
    assert set(pages) == {byte // page_bytes for byte in range(start, start + length)}


@pytest.mark.parametrize(
    ("indexes", "most", "expected"),
    [
        ([], 4, []),
        ([3], 4, [range(3, 4)]),
        ([0, 1, 2], 4, [range(3)]),
        ([0, 1, 3, 4, 7], 4, [range(2), range(3, 5), range(7, 8)]),
        ([0, 1, 2, 3, 4], 2, [range(2), range(2, 4), range(4, 5)]),
        ([0, 1], 1, [range(1), range(1, 2)]),
    ],
)
def test_runs(indexes: list[int], most: int, expected: list[range]) -> None:
    assert list(runs(indexes, most)) == expected


@given(st.sets(st.integers(0, 60)), st.integers(1, 9))
def test_runs_lose_nothing_and_are_as_few_as_can_be(indexes: set[int], most: int) -> None:
    found = list(runs(sorted(indexes), most))
    assert [index for run in found for index in run] == sorted(indexes)
    assert all(1 <= len(run) <= most for run in found)
    for one, other in zip(found, found[1:], strict=False):
        assert one.stop < other.start or len(one) == most
