"""Of the race that `beside_fsspec` tells of, the row of headrace."""

from __future__ import annotations

from tests.races.beside_fsspec import headrace, race


def test_all_readers_of_a_cold_object_get_right_bytes_by_one_read() -> None:
    answers, reads = race(headrace, 16)
    assert (answers, reads) == ({"right": 16}, 1)
