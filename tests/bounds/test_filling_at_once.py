"""No bound is passed by a byte or an entry, with 64 threads that fill a cache at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace_cache.backing import most_extents
from headrace_cache.reading.fetching import MOST_FLIGHTS
from tests.bench.peak_memory import STRETCH_BYTES
from tests.bounds.crowd import THREADS
from tests.bounds.filled_world import FilledWorld, answer, ended

#: Beside the extents: segments kept open, the index, the ledger, locks, what Python itself has.
OTHER_DESCRIPTORS = 256


@pytest.fixture
def world(tmp_path: Path) -> FilledWorld:
    world = FilledWorld(tmp_path)
    world.make_store()
    return world


def test_one_process(world: FilledWorld) -> None:
    most = answer(world.start())
    assert most["bytes fetched"] > 4 * world.memory_bytes, "nothing had to leave memory"
    assert most["memory"] <= world.memory_bytes
    assert most["memory held"] <= world.memory_bytes
    assert most["memory"] > world.memory_bytes * 3 // 4, "the bound was never met"
    assert most["disk"] <= world.ssd_bytes
    assert most["disk"] > world.ssd_bytes * 3 // 4, "the bound was never met"
    assert most["extents"] <= most["extents allowed"] == most_extents()
    assert most["descriptors"] <= most["extents"] + OTHER_DESCRIPTORS
    assert most["flights"] <= MOST_FLIGHTS
    # Flights, and what threads wait for: one each.
    assert most["in line"] <= MOST_FLIGHTS + THREADS
    assert most["peak"] <= world.memory_bytes + STRETCH_BYTES


def test_four_processes_share_one_folder(world: FilledWorld) -> None:
    processes = [world.start(seed=seed, reads=6, alone=False) for seed in range(4)]
    with ended(processes):
        # In the smallest tier there is, four who store the same come to hold all of its room.
        mosts = [answer(process, warned="some pages are not kept") for process in processes]
    for most in mosts:
        assert most["memory"] <= world.memory_bytes
        assert most["disk"] <= world.ssd_bytes
        assert most["peak"] <= world.memory_bytes + STRETCH_BYTES
    assert max(most["disk"] for most in mosts) > world.ssd_bytes * 3 // 4


def test_few_descriptors_cost_memory_and_no_read(world: FilledWorld) -> None:
    """Three quarters of them are extents at the most, and who has too few makes do."""
    most = answer(world.start(reads=8, descriptors=128))
    assert most["extents"] <= most["extents allowed"] == 96
    assert most["descriptors"] <= 128
