"""The threads that do blocking work for others."""

from __future__ import annotations

import logging

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
        pool.run(lambda: {}["absent"])
    pool.close()
    with pytest.raises(StoreTimeout, match="closed"):
        pool.run(lambda: 1)
