"""Backing memory by its mapping and by its descriptor."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from headrace_cache.tiers.backing import DESCRIPTORS_EACH, Backing

SIZE = 1 << 16


def test_what_is_written_by_the_descriptor_is_read_by_the_mapping_and_the_other_way() -> None:
    backing = Backing(SIZE)
    backing.write(slice(5000, 5006), memoryview(b"sealed"))
    backing.mapping[9000:9007] = b"fetched"
    assert backing.mapping[4999:5007] == b"\0sealed\0"
    target = bytearray(7)
    backing.read_into(slice(9000, 9007), memoryview(target))
    assert target == b"fetched"
    backing.close()


def test_nothing_is_closed_under_a_view_and_nothing_works_once_closed() -> None:
    backing = Backing(SIZE)
    with memoryview(backing.mapping) as view:
        with pytest.raises(BufferError):
            backing.close()
        backing.write(slice(0, 3), memoryview(b"yes"))
        assert bytes(view[:3]) == b"yes"
    backing.close()
    # Its descriptor's number may be another file's by now: it must not be asked.
    with pytest.raises(ValueError, match="closed"):
        backing.write(slice(0, 3), memoryview(b"no!"))
    with pytest.raises(ValueError, match="closed"):
        backing.read_into(slice(0, 3), memoryview(bytearray(3)))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors in /proc")
def test_it_costs_as_many_descriptors_as_are_counted_for_it() -> None:
    before = _descriptors()
    kept, lost = Backing(SIZE), Backing(SIZE)
    assert _descriptors() == before + 2 * DESCRIPTORS_EACH
    kept.close()
    del lost
    assert _descriptors() == before


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))
