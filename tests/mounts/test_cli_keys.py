"""A wait for keys ends when the end is asked for, whenever and wherever the signal comes."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from headrace.cli.keys import ENDS, keys

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def waits(thread: int) -> bool:
    """Whether this thread waits for something else than a lock."""
    task = Path(f"/proc/self/task/{thread}")
    state = task.joinpath("stat").read_text().rpartition(")")[2].split()[0]
    return state == "S" and "futex" not in task.joinpath("wchan").read_text()


@pytest.mark.parametrize("number", ENDS, ids=str)
def test_a_signal_that_another_thread_takes(
    monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    here, begun = threading.get_native_id(), threading.Event()
    real = select.select
    woken: list[bool] = []

    def take() -> None:
        begun.wait()
        while not waits(here):
            pass
        signal.pthread_kill(threading.get_ident(), number)

    def watched(
        read: Sequence[int], write: Sequence[int], other: Sequence[int], seconds: float
    ) -> tuple[list[int], list[int], list[int]]:
        begun.set()
        ready = real(read, write, other, 20)
        woken.append(bool(ready[0]))
        return ready

    thread = threading.Thread(target=take)
    with keys(wanted=False) as pressed:
        monkeypatch.setattr(select, "select", watched)
        thread.start()
        assert pressed.wait(20) == ""
        thread.join()
        assert pressed.ended == number
    assert woken == [True]


def test_all_is_as_it_was() -> None:
    before = [signal.getsignal(number) for number in ENDS]
    descriptors = len(os.listdir("/proc/self/fd"))
    with keys(wanted=False) as pressed:
        os.kill(os.getpid(), signal.SIGHUP)
        assert pressed.wait(20) == "" and pressed.ended == signal.SIGHUP
    assert [signal.getsignal(number) for number in ENDS] == before
    assert signal.set_wakeup_fd(-1) == -1
    assert len(os.listdir("/proc/self/fd")) == descriptors
