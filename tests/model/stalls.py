"""Rules of several threads: a read that waits inside the store while something else is done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from headrace_namespace.errors import HeadraceError, PolicyDenied
from tests.model.faulty_store import Stall
from tests.model.machine import Handle, choices, keys, path_of, sizes
from tests.model.mischief import Mischief, policies
from tests.model.policy_model import PolicyText
from tests.model.reading import Reading, read_by

#: How long anything of these may take at the worst.
PATIENCE_SECONDS = 60.0
RESEND_SECONDS = 0.005
Found = memoryview | bytes | int | HeadraceError


class Cancelled(BaseException):
    """What is raised in the thread of a reader who is cancelled."""


class Interrupt:
    """A signal's handler: cancels whoever has it, once."""

    def __init__(self) -> None:
        self.raised = threading.Event()

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if not self.raised.is_set():
            self.raised.set()
            raise Cancelled


class Stalls(Reading, Mischief):
    """What is done while a read is under way."""

    @precondition(lambda self: self.handles)
    @rule(which=choices, key=keys, size=sizes)
    def replaced_while_reading(self, which: int, key: str, size: int) -> None:
        """Another client replaces the very object, and another."""
        handle = self.handles[which % len(self.handles)]
        store = self.store_of(handle.version.ref)

        def replace() -> None:
            self.put_behind(store, handle.version.ref.key, size)
            self.put_behind(store, key, size)

        self.while_reading(handle, replace)

    @precondition(lambda self: self.handles)
    @rule(which=choices, text=policies)
    def policy_changed_while_reading(self, which: int, text: PolicyText) -> None:
        """What either policy lets be read may be given to who asked under the first, and what
        either denies may be refused; what the second restricts is kept nowhere."""
        handle = self.handles[which % len(self.handles)]
        before = (self.may_be_refused(handle), self.must_be_refused(handle))
        self.while_reading(handle, lambda: self.change_policy(text, 1), refused=before)

    @precondition(lambda self: self.handles)
    @rule(which=choices)
    def dropped_while_reading(self, which: int) -> None:
        handle = self.handles[which % len(self.handles)]
        self.while_reading(handle, lambda: self.tried(lambda: self.drop_it(handle)))

    def drop_it(self, handle: Handle) -> None:
        self.service.drop(path_of(handle.path))

    @precondition(lambda self: len(self.handles) > 1)
    @rule(which=choices, other=choices)
    def another_read_meanwhile(self, which: int, other: int) -> None:
        """A store that stalls for one reader does not hold up a reader of another object."""
        handle = self.handles[which % len(self.handles)]
        second = self.handles[other % len(self.handles)]
        if second.version.ref == handle.version.ref:
            return
        self.while_reading(handle, lambda: self.read_range(second, "read_at", 0, 1 << 20))

    def while_reading(
        self,
        handle: Handle,
        work: Callable[[], object],
        *,
        refused: tuple[bool, bool] | None = None,
    ) -> None:
        """Do `work` while the first request of a read of all of `handle` waits in its store; where
        it makes none, after it. `refused`: whether the policy, which `work` changes, let it be
        refused before, and demanded it."""
        store, stall = self.store_of(handle.version.ref), Stall()
        store.stall = stall
        size, found = handle.version.size, list[Found]()

        def read() -> None:
            try:
                found.append(self.tried(lambda: read_by(handle, "read_at", 0, size)))
            finally:
                stall.told.put("done")

        reader = threading.Thread(target=read)
        reader.start()
        stall.told.get(timeout=PATIENCE_SECONDS)
        store.stall = None
        try:
            work()
        finally:
            stall.go_on.set()
            reader.join(PATIENCE_SECONDS)
        assert found, "a read did not end"
        if refused is not None and isinstance(found[0], PolicyDenied):
            assert refused[0] or self.may_be_refused(handle), found[0]
        elif refused is not None and not refused[1] and isinstance(found[0], bytes):
            self.judge_bytes(handle, found[0], 0, size)
        else:
            self.judge_read(handle, found[0], 0, size)

    @precondition(lambda self: self.handles)
    @rule(which=choices, second=st.booleans())
    def cancelled_reader(self, which: int, second: bool) -> None:
        """A reader is cancelled in the midst of a fill that another waits for; that one, and all
        who come later, read right bytes."""
        handle = self.handles[which % len(self.handles)]
        store, stall = self.store_of(handle.version.ref), Stall()
        found, others = list[Found](), list[threading.Thread]()
        size = handle.version.size

        def read() -> None:
            found.append(self.tried(lambda: read_by(handle, "read_at", 0, size)))

        def conduct() -> None:
            if stall.told.get(timeout=PATIENCE_SECONDS) != "entered":
                return
            if second:
                others.append(threading.Thread(target=read))
                others[0].start()
            # One that arrives just before the reader begins to wait does not wake it.
            while not interrupt.raised.wait(RESEND_SECONDS):
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

        conductor = threading.Thread(target=conduct)
        interrupt = Interrupt()
        before = signal.signal(signal.SIGUSR1, interrupt)
        store.stall = stall
        try:
            conductor.start()
            mine = self.tried(lambda: read_by(handle, "read_at", 0, size))
            stall.told.put("done")  # it made no request
            conductor.join(PATIENCE_SECONDS)
            self.judge_read(handle, mine, 0, size)
        except Cancelled:
            conductor.join(PATIENCE_SECONDS)
        finally:
            store.stall = None
            stall.go_on.set()
            for thread in others:
                thread.join(PATIENCE_SECONDS)
                assert not thread.is_alive(), "a read that another shared did not end"
            signal.signal(signal.SIGUSR1, before)
        for data in found:
            self.judge_read(handle, data, 0, size)
