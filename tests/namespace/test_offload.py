"""The threads that do blocking work for others."""

from __future__ import annotations

import logging
from _thread import get_ident, start_new_thread
from collections.abc import Callable

import pytest

from headrace_namespace.errors import StoreTimeout
from headrace_namespace.offload import Offload


def test_work_that_fails_ends_no_thread(caplog: pytest.LogCaptureFixture) -> None:
    """A read-ahead of a mount that was just removed ended the only launcher: all later reads of
    the process waited for a quarter of an hour."""
    pool = Offload(1)

    def fail() -> None:
        raise ValueError("of nobody's")

    with caplog.at_level(logging.WARNING):
        pool.submit(fail)
        pool.later(fail)
        assert pool.run(lambda: 7) == 7
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    pool.close()


def test_the_caller_gets_the_answer_or_the_error() -> None:
    pool = Offload(2)
    assert pool.run(lambda: pool.run(lambda: "inside")) == "inside"
    with pytest.raises(KeyError):
        pool.run(lambda: dict[str, int]()["absent"])
    pool.close()
    with pytest.raises(StoreTimeout, match="closed"):
        pool.run(lambda: 1)


class Interrupted(BaseException):
    """As Ctrl-C, at a step of our choice."""


@pytest.mark.parametrize("started", [True, False])
def test_an_interrupt_at_a_thread_s_start_costs_no_thread_and_makes_none_too_many(
    monkeypatch: pytest.MonkeyPatch, started: bool
) -> None:
    """One was counted that did not run: all who asked later waited for it."""
    pool = Offload(1)
    start = start_new_thread

    def interrupted(serve: Callable[[], object], _: tuple[()]) -> int:
        if started:
            start(serve, ())
        raise Interrupted

    monkeypatch.setattr("headrace_namespace.offload.start_new_thread", interrupted)
    for _ in range(3):
        with pytest.raises(Interrupted):
            pool.submit(lambda: None)
            pool.submit(lambda: None)
    monkeypatch.undo()
    assert len({pool.run(get_ident) for _ in range(50)}) == 1
    pool.close()
