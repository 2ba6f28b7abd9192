"""A small cache over a store in memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes.local_cache import Rig
from tests.fakes.memory_backend import MemoryBackend


@pytest.fixture
def lake() -> MemoryBackend:
    return MemoryBackend("memory:lake")


@pytest.fixture
def rig(lake: MemoryBackend) -> Iterator[Rig]:
    rig = Rig({"/lake": lake})
    yield rig
    rig.service.close()
