"""Writes that are tried again after lost answers: what was ours is not taken for another's."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from headrace_namespace.backends.protocol import Backend, Folder, There
from headrace_namespace.backends.retry import RetryingBackend, RetryPolicy
from headrace_namespace.backends.slow_down import SlowDown
from headrace_namespace.errors import (
    AlreadyExists,
    FolderNotEmpty,
    HeadraceError,
    IsFolder,
    NotFound,
    StoreUnavailable,
    WriteConflict,
)
from headrace_namespace.identity import ObjectVersion
from tests.conformance.writable_store import put, send
from tests.fakes.clock import ManualClock
from tests.fakes.memory_backend import MemoryBackend


@pytest.fixture
def memory() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
def patient(memory: MemoryBackend) -> Backend:
    return RetryingBackend(memory, ManualClock(), RetryPolicy(), Random(0))


def once(*errors: HeadraceError) -> Callable[[str, str], None]:
    """A hook that raises the errors one after the other, then does nothing."""
    left = list(errors)

    def raise_next(operation: str, key: str) -> None:
        if left:
            raise left.pop(0)

    return raise_next


def lost() -> StoreUnavailable:
    return StoreUnavailable("the connection broke")


@pytest.mark.parametrize("made", [True, False])
def test_each_write_is_tried_again(memory: MemoryBackend, patient: Backend, made: bool) -> None:
    """Whether the first attempt was made and its answer lost, or was not made at all."""

    def lose() -> None:
        if made:
            memory.after_write = once(lost())
        else:
            memory.before_write = once(lost())

    lose()
    first = put(patient, "object", b"1", There.NOTHING)
    lose()
    second = put(patient, "object", b"2", first)
    assert memory.data("object") == b"2" and memory.stat("object") == second
    lose()
    put(patient, "other", b"3")
    upload = patient.begin_upload(patient.ref("sent"), There.NOTHING)
    lose()
    parts = send(upload, b"sent")
    lose()
    assert upload.commit(parts) == memory.stat("sent")
    lose()
    patient.make_folder("folder")
    assert memory.stat("folder") == Folder()
    lose()
    patient.remove_folder("folder")
    assert memory.stat("folder") is None
    lose()
    assert patient.delete(["object", "other"]) == {}
    assert memory.keys == ["sent"]
    assert set(memory.asked.values()) != {1}


def test_another_s_object_stays_a_conflict_after_a_lost_answer(
    memory: MemoryBackend, patient: Backend
) -> None:
    old = memory.set("object", b"old")

    def replaced(operation: str, key: str) -> None:
        memory.after_write = None
        memory.set("object", b"new")
        raise lost()

    memory.after_write = replaced
    with pytest.raises(WriteConflict):
        put(patient, "object", b"our", old)
    assert memory.data("object") == b"new"


def test_a_refusal_is_no_lost_answer(memory: MemoryBackend, patient: Backend) -> None:
    memory.set("lock", b"held")
    memory.before_write = once(SlowDown("busy"))
    with pytest.raises(AlreadyExists):
        put(patient, "lock", b"held", There.NOTHING)


def test_a_copy_whose_answer_was_lost_is_known_by_its_tag_or_not_at_all(
    memory: MemoryBackend, patient: Backend
) -> None:
    source = memory.set("source", b"1")
    memory.after_write = once(lost())
    copied = patient.copy(source, patient.ref("free"), There.ANYTHING)
    assert memory.stat("free") == copied
    memory.after_write = once(lost())
    with pytest.raises(StoreUnavailable, match="lost") as caught:
        patient.copy(source, patient.ref("copy"), There.NOTHING)
    assert not caught.value.retriable  # the fake's copies have tags of their own


def test_a_folder_that_was_there_is_not_taken_for_ours(
    memory: MemoryBackend, patient: Backend
) -> None:
    memory.make_folder("folder")
    with pytest.raises(AlreadyExists):
        patient.make_folder("folder")
    with pytest.raises(NotFound):
        patient.remove_folder("nothing")
    memory.set("full/object", b"")
    memory.before_write = once(lost())
    with pytest.raises(FolderNotEmpty):
        patient.remove_folder("full")


def test_only_keys_that_can_be_helped_are_deleted_again(memory: MemoryBackend) -> None:
    class Partly(MemoryBackend):
        tries: list[list[str]] = []

        def delete(self, keys: object) -> dict[str, HeadraceError]:
            assert isinstance(keys, list)
            asked: list[str] = list(keys)  # pyright: ignore[reportUnknownArgumentType]
            self.tries.append(asked)
            answers: dict[str, HeadraceError] = {}
            for key in asked:
                if key == "folder":
                    answers[key] = IsFolder("no")
                if key == "busy" and len(self.tries) < 3 or key == "never":
                    answers[key] = StoreUnavailable("busy")
            return answers

    partly = Partly()
    patient = RetryingBackend(partly, ManualClock(), RetryPolicy(attempts=4), Random(0))
    wrong = patient.delete(["a", "folder", "busy"])
    assert list(wrong) == ["folder"]
    assert partly.tries == [["a", "folder", "busy"], ["busy"], ["busy"]]
    partly.tries.clear()
    assert list(patient.delete(["never", "a"])) == ["never"]
    assert len(partly.tries) == 4


def test_what_nobody_can_answer_is_raised(memory: MemoryBackend, patient: Backend) -> None:
    memory.before_write = once(*(lost() for _ in range(9)))
    with pytest.raises(StoreUnavailable, match="after 5 attempts"):
        patient.delete(["a"])


def test_a_conflict_found_is_passed_on_with_what_is_there(
    memory: MemoryBackend, patient: Backend
) -> None:
    there = memory.set("object", b"1")
    with pytest.raises(AlreadyExists) as caught:
        put(patient, "object", b"2", There.NOTHING)
    assert isinstance(caught.value.found, ObjectVersion) and caught.value.found == there


def test_an_answered_failure_is_no_lost_answer(memory: MemoryBackend, patient: Backend) -> None:
    """Two that count alike: the loser must not take the winner's for its own."""
    old = memory.set("count", b"1")

    def won_by_another(operation: str, key: str) -> None:
        memory.before_write = None
        memory.set("count", b"2")
        failed = StoreUnavailable("it failed on its own side")
        failed.answered = True
        raise failed

    memory.before_write = won_by_another
    with pytest.raises(WriteConflict):
        put(patient, "count", b"2", old)
