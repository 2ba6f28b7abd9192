from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headrace_cache.extents.extent import ExtentShape
from headrace_cache.extents.page import PAGE_BYTES

limits = st.integers(8 << 20, 64 << 30)


@given(limits, st.integers(1, 10 << 30))
def test_no_extent_takes_more_than_a_quarter_of_its_tier(limit: int, size: int) -> None:
    shape = ExtentShape.for_tier(limit)
    assert shape.extent_bytes(size) <= limit // 4
    assert shape.arena_bytes <= limit // 4
    if not shape.in_arena(size) and shape.extent_bytes(size) != size:
        assert shape.extent_bytes(size) % PAGE_BYTES == 0


@given(limits, st.integers(1, 1 << 30), st.data())
def test_spans_cover_a_range_exactly(limit: int, size: int, data: st.DataObject) -> None:
    shape = ExtentShape.for_tier(limit)
    start = data.draw(st.integers(0, size))
    stop = data.draw(st.integers(start, size))
    at = start
    each = shape.extent_bytes(size)
    for index, begin, end in shape.spans(start, stop, size):
        assert begin == at and index == begin // each == (end - 1) // each
        at = end
    assert at == stop


def test_a_small_object_is_one_extent_and_shares_an_arena() -> None:
    shape = ExtentShape.for_tier(2 << 30)
    assert shape.in_arena(4 << 20) and not shape.in_arena((4 << 20) + 1)
    assert list(shape.spans(0, 100, 100)) == [(0, 0, 100)]
