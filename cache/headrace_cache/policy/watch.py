"""The policy in force: the file's, looked at again while the process runs.

A change of the file is in force for every open after the next look. One that raises the epoch takes
the place of what was; one that does not can only make things stricter, for both then hold. That is
so over restarts and for all processes that share a cache folder: what was in force is kept
(`kept_policy.py`). A file that vanished or cannot be read whole denies everything until it is
mended.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from _thread import start_new_thread
from collections.abc import Callable
from pathlib import Path

from headrace_cache.limits import PolicySource
from headrace_cache.policy.kept import KeptPolicy, PolicyBook
from headrace_cache.policy.parsing import parse_policy
from headrace_cache.policy.policy import DENY_ALL, UNRESTRICTED, Policy
from headrace_namespace.clock import Clock
from headrace_namespace.config import read_text
from headrace_namespace.errors import ConfigError
from headrace_namespace.latch import Latch
from headrace_namespace.metadata.ledger import Book

_log = logging.getLogger(__name__)

#: How long a change may go unseen. A look is one stat and one look-up, some 20 microseconds.
LOOK_SECONDS = 1.0
#: How long `end` waits for a look that is under way; a purge takes seconds at most.
CLOSE_SECONDS = 10.0

#: What shows of a file's change: inode, size, mtime and ctime; None where it is not there.
_Looks = tuple[int, int, int, int] | None
#: Looks that no file has: it must be read.
_UNSEEN: _Looks = (-1, -1, -1, -1)


class PolicyWatch:
    """Gives the policy in force now. Safe to use from many threads."""

    def __init__(self, source: PolicySource | None, clock: Clock) -> None:
        """Raises ConfigError where the policy is wrong from the start."""
        self._file = source.name if source is not None else None
        self._text = source.text if source is not None else ""
        self._clock = clock
        self._book = PolicyBook()
        self._looking = threading.Lock()
        self._ended = False
        self._run: Callable[[Callable[[], None]], None] = _at_once
        self._follow: Callable[[], None] | None = None
        # A text whose name is no file's never changes; a file may have since its text was read.
        self._is_file = _look(self._file) is not None
        self._looks = _UNSEEN if self._is_file else None
        self._generation: int = 0
        self._told = False
        self._complained = ""
        own = UNRESTRICTED
        if source is not None:
            own = parse_policy(source.text, source.name)
            self._book.keep(source.text, own.epoch)
        self._next_look = clock.monotonic() + LOOK_SECONDS
        self._good = self._current = own

    def begin(self, book: Book, run: Callable[[Callable[[], None]], None]) -> None:
        """Begin in this process, or again in a forked child: the kept policy is in `book`.

        `run` does a look on a thread that no interrupt reaches. Nothing else uses the watch yet.
        """
        self._looking = threading.Lock()  # a thread of the parent may have held the other
        self._ended = False
        self._run, self._follow = run, None
        self._book.move_to(book)
        if self._is_file:
            self._looks = _UNSEEN
        self._generation = -1
        self._refresh()
        if self._file is None and self.kept is not None and not self._told:
            self._told = True
            _log.warning(
                "no policy file is configured, but the last policy (of epoch %d) still holds; to "
                "be rid of it, configure a policy file with a higher epoch",
                self._good.epoch,
            )

    def follow(self, follow: Callable[[], None]) -> None:
        """Have this called after every look, whatever it showed; then by the thread that looked."""
        self._follow = follow

    @property
    def now(self) -> Policy:
        """The policy in force, as the last look found it."""
        return self._current

    @property
    def good(self) -> Policy:
        """The last policy that could be read: what is in force, or was before a file broke."""
        return self._good

    @property
    def broken(self) -> bool:
        """Whether the file cannot be read now, so that everything is denied."""
        return self._current is DENY_ALL

    @property
    def kept(self) -> KeptPolicy | None:
        """What is kept of the policy; None where there never was one."""
        return self._book.seen

    @property
    def book(self) -> PolicyBook:
        """Where it is kept."""
        return self._book

    def current(self) -> Policy:
        """The policy in force; it is never raised about, for what cannot be read denies all."""
        if self._clock.monotonic() >= self._next_look:
            self._run(self.look)
        return self._current

    def look(self) -> None:
        """Look now, unless another thread is at it just now, or it has ended."""
        if not self._looking.acquire(blocking=False):
            return
        try:
            if self._ended:
                return
            self._next_look = self._clock.monotonic() + LOOK_SECONDS
            self._refresh()
            if self._follow is not None:
                self._follow()
        finally:
            self._looking.release()

    def end(self) -> None:
        """Look no more, whoever asks: what a look needs is about to be closed. One that is under
        way ends before this returns, whatever thread it is on."""
        self._ended = True
        if self._looking.acquire(timeout=CLOSE_SECONDS):
            self._looking.release()

    def _refresh(self) -> None:
        looks, generation = _look(self._file), self._book.generation()
        changed = looks != self._looks
        if not changed and generation == self._generation:
            return
        try:
            policy = self._read(anew=changed or self._generation < 0)
        except ConfigError as error:
            if str(error) != self._complained:
                _log.error("nothing is served until the policy is mended: %s", error)
            self._complained = str(error)
            self._current = DENY_ALL
            # Read again at the next look: what was wrong may not have been the file's fault.
            self._looks = _UNSEEN
            return
        mended, self._complained = bool(self._complained), ""
        other = policy.epoch != self._good.epoch or policy.demands != self._good.demands
        self._current = self._good = policy
        if mended or (other and self._generation >= 0):
            _log.info("another policy is in force", extra={"epoch": policy.epoch, "mended": mended})
        # As they were before it was read: what changed meanwhile is seen at the next look.
        self._looks, self._generation = looks, generation

    def _read(self, *, anew: bool) -> Policy:
        """The file's policy and the kept one together. Raises ConfigError."""
        if self._file is None:
            kept = self._book.now()
            return UNRESTRICTED if kept is None else UNRESTRICTED.keeping(kept.policy())
        text = self._text
        if self._is_file:
            if _is_irregular(self._file):
                raise ConfigError(f"the policy file {self._file} is not a plain file")
            text = read_text(Path(self._file), "policy file")
        own = parse_policy(text, self._file)
        # A file that did not change is not kept anew: another's of a higher epoch may have dropped
        # what it says.
        kept = self._book.keep(text, own.epoch) if anew else self._book.now()
        return own if kept is None else own.keeping(kept.policy())


class Patrol:
    """A thread that looks once a second though nobody asks; it ends with `close`."""

    def __init__(self, watch: PolicyWatch) -> None:
        # Weak: a service that was let go of without being closed must not live on by its watch.
        self._watch = weakref.ref(watch)
        self._closed = Latch()
        self._ended = Latch()
        self._started = False

    def start(self) -> None:
        """Start it, unless it was started before. Also where there is no policy yet: another
        process that shares the cache folder may bring one."""
        if not self._started:
            self._started = True
            start_new_thread(_patrol, (self._watch, self._closed, self._ended))

    def close(self) -> None:
        """End it and the watch; a look that is under way ends before this returns."""
        self._closed.open()
        watch = self._watch()
        if watch is not None:
            watch.end()
        if self._started:
            self._ended.wait(CLOSE_SECONDS)


def _patrol(watching: weakref.ref[PolicyWatch], closed: Latch, ended: Latch) -> None:
    try:
        while not closed.wait(LOOK_SECONDS):
            watch = watching()
            if watch is None:
                return
            try:
                watch.look()
            except Exception:
                # Whatever it was, the next change must not go unseen.
                _log.exception("looking at the policy failed")
            del watch
    finally:
        ended.open()


def _at_once(work: Callable[[], None]) -> None:
    work()


def _is_irregular(file: str) -> bool:
    """Whether something else is there than a file, such as a pipe, whose reading could not end."""
    return os.path.exists(file) and not os.path.isfile(file)


def _look(file: str | None) -> _Looks:
    if file is None:
        return None
    try:
        shown = os.stat(file)
    except OSError:
        return None
    return shown.st_ino, shown.st_size, shown.st_mtime_ns, shown.st_ctime_ns
