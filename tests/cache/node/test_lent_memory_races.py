"""What other threads do while memory of the node is being replaced by a copy."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable

import pytest

from headrace_cache.backing import Backing, create_backing
from headrace_cache.remote import lent_mapping, lent_memory
from headrace_cache.remote.lent_memory import LentMemory
from headrace_cache.wire.told import ToldLoan
from tests.cache.node.conftest import MIB
from tests.cache.node.test_lent_memory import Kernel

_ARENA, _PAGED = -1, MIB


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is called back is copied at once."""
    monkeypatch.setattr(lent_memory, "PATIENCE_SECONDS", 0.0)


def lent(presence: int) -> tuple[LentMemory, Backing]:
    """One extent of the node's, number 7, mapped."""
    shared = create_backing(MIB + 4096, shared=True)
    shared.mapping[:MIB] = b"x" * MIB
    shared.mapping[MIB] = 1
    memory = LentMemory(16 * MIB)
    loan = ToldLoan(7, 0, MIB, 0, complete=True, presence=presence, new=True)
    assert memory.map([loan], [os.dup(shared.descriptor)]) == []
    return memory, shared


def another_call_of_it(memory: LentMemory) -> None:
    assert memory.give_back([]) == []


def the_session_ends(memory: LentMemory) -> None:
    memory.unmap_all()


@pytest.mark.parametrize("presence", [_ARENA, _PAGED])
@pytest.mark.parametrize("meanwhile", [another_call_of_it, the_session_ends])
def test_what_is_being_copied_is_not_unmapped_when_its_last_view_goes(
    presence: int, meanwhile: Callable[[LentMemory], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, shared = lent(presence)
    extent = memory.get(7)
    assert extent is not None
    view = memoryview(extent.mapping)
    seen: list[bool] = []

    def last_view_goes() -> int:
        view.release()
        meanwhile(memory)
        seen.append(extent.mapping.closed)
        return 0

    monkeypatch.setattr(lent_mapping, "_C", Kernel("madvise", last_view_goes))
    assert memory.give_back([7]) == [7]
    assert seen == [False] and memory.get(7) is None
    assert extent.mapping[:9] == b"x" * 9
    memory.give_back([])  # nobody has a view of it any more
    assert extent.mapping.closed and memory.copied_bytes == 0
    shared.close()


@pytest.mark.parametrize("presence", [_ARENA, _PAGED])
def test_what_was_unmapped_just_before_it_is_copied_was_given_back(
    presence: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, shared = lent(presence)
    extent = memory.get(7)
    assert extent is not None
    view = memoryview(extent.mapping)
    replace = lent_mapping.LentMapping.replace

    def too_late(it: lent_mapping.LentMapping) -> None:
        view.release()
        memory.give_back([])
        assert it.mapping.closed
        replace(it)

    monkeypatch.setattr(lent_mapping.LentMapping, "replace", too_late)
    assert memory.give_back([7]) == [7]
    assert memory.get(7) is None and memory.copied_bytes == 0
    shared.close()


def test_a_copy_that_failed_of_what_was_unmapped_meanwhile_was_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory, shared = lent(_ARENA)
    extent = memory.get(7)
    assert extent is not None
    view = memoryview(extent.mapping)

    def fails(it: lent_mapping.LentMapping) -> None:
        view.release()
        memory.give_back([])
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(lent_mapping.LentMapping, "replace", fails)
    assert memory.give_back([7]) == [7]
    assert memory.get(7) is None and memory.copied_bytes == 0
    shared.close()


@pytest.mark.parametrize("presence", [_ARENA, _PAGED])
def test_a_call_that_comes_after_the_session_has_ended_is_passed_over(
    presence: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, shared = lent(presence)
    extent = memory.get(7)
    assert extent is not None
    view = memoryview(extent.mapping)
    unmap = lent_mapping.LentMapping.unmap

    def ends_then(it: lent_mapping.LentMapping) -> bool:
        assert not unmap(it)
        view.release()
        it.mapping.close()  # as `unmap_all` of another thread
        return False

    monkeypatch.setattr(lent_mapping.LentMapping, "unmap", ends_then)
    memory.give_back([7])
    monkeypatch.undo()
    assert extent.mapping.closed
    shared.close()


def test_what_could_not_be_copied_can_be_later(monkeypatch: pytest.MonkeyPatch) -> None:
    memory, shared = lent(_PAGED)
    extent = memory.get(7)
    assert extent is not None

    def full() -> int | None:
        ctypes.set_errno(errno.ENOMEM)
        return ctypes.c_void_p(-1).value

    with memoryview(extent.mapping) as view:
        with monkeypatch.context() as patch:
            patch.setattr(lent_mapping, "_C", Kernel("mmap", full))
            assert memory.give_back([7]) == []
        assert memory.get(7) is extent and memory.copied_bytes == 0 and not extent.replaced
        assert memory.give_back([7]) == [7]
        assert view[:MIB] == b"x" * MIB and memory.copied_bytes
    shared.close()
