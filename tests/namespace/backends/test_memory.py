"""The fake of other rooms' tests is held to the contract, too."""

from __future__ import annotations

import pytest

from tests.conformance.backend_write_suite import BackendWriteSuite
from tests.conformance.writable_store import WritableStore
from tests.fakes.memory_backend import MemoryBackend


class MemoryStore(WritableStore):
    strong = True

    def __init__(self) -> None:
        self.memory = MemoryBackend()
        self.backend = self.memory

    def put(self, key: str, data: bytes) -> None:
        self.memory.set(key, data)

    def delete(self, key: str) -> None:
        self.memory.remove(key)

    def make_folder(self, key: str) -> None:
        self.memory.make_folder(key)

    def remove_root(self) -> None:
        raise NotImplementedError("memory has no root")

    def unfinished(self) -> list[str]:
        return [str(upload) for upload in self.memory.uploads]


class TestMemoryWrites(BackendWriteSuite):
    @pytest.fixture
    def store(self) -> WritableStore:
        return MemoryStore()
