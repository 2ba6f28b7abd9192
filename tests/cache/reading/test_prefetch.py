from __future__ import annotations

from headrace_cache.reading.prefetch import FIRST_WINDOW_BYTES, WIDEST_WINDOW_BYTES, ReadAhead

MIB = 1 << 20
SIZE = 1 << 30


def test_a_sequential_reader_gets_a_widening_window() -> None:
    ahead = ReadAhead()
    widths: list[int] = []
    fetched = 0
    for start in range(0, 256 * MIB, MIB):
        begin, end = ahead.next(start, start + MIB, SIZE)
        if end > begin:
            assert begin >= fetched  # nothing is asked twice
            widths.append(end - (start + MIB))
            fetched = end
        assert fetched >= start + MIB or start == 0
    assert widths[0] == FIRST_WINDOW_BYTES
    assert max(widths) == WIDEST_WINDOW_BYTES


def test_the_second_long_read_in_a_row_opens_the_window_as_wide_as_itself() -> None:
    ahead = ReadAhead()
    first = ahead.next(0, 16 * MIB, SIZE)
    assert first == (16 * MIB, 16 * MIB + FIRST_WINDOW_BYTES), "one read may be chance"
    second = ahead.next(16 * MIB, 32 * MIB, SIZE)
    assert second == (32 * MIB, 48 * MIB)
    begin, end = ahead.next(32 * MIB, 80 * MIB, SIZE)
    assert (begin, end) == (80 * MIB, 80 * MIB + WIDEST_WINDOW_BYTES)


def test_random_reads_fetch_nothing_ahead() -> None:
    ahead = ReadAhead()
    for start in (500 * MIB, 3 * MIB, 900 * MIB, 20 * MIB):
        begin, end = ahead.next(start, start + 4096, SIZE)
        assert begin == end


def test_it_ends_with_the_object_and_can_be_switched_off() -> None:
    assert ReadAhead().next(0, 10, 100) == (10, 100)
    begin, end = ReadAhead(0).next(0, MIB, SIZE)
    assert begin == end
