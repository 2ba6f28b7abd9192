"""The memory that the node has lent to this process: mapped, read without a call, and given back.

What is called back is unmapped where nobody reads it. What somebody has a view of cannot be; when
the node has called it back for `PATIENCE_SECONDS`, it is replaced by a copy of this process's own.
So a job may keep a table for hours, and does not keep the node's cache with it.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence

from headrace_cache.remote.lent_mapping import LentMapping
from headrace_cache.wire.channel import close_all
from headrace_cache.wire.told import ToldLoan
from headrace_namespace.errors import StoreAnswerWrong

_log = logging.getLogger(__name__)

#: Extents remembered that were called back before they came; one that is forgotten is called back
#: again.
MOST_EARLY = 1024
#: How long views keep what was called back before it is copied. Most are gone by then: those of a
#: read, of a column that is decoded.
PATIENCE_SECONDS = 1.0


class LentMemory:
    """The extents of one session. Safe to use from many threads."""

    def __init__(self, most_copied_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`most_copied_bytes` bounds what is kept in copies, for views, at once."""
        self._most_copied_bytes = most_copied_bytes
        self._clock = clock
        self._lock = threading.Lock()
        self._extents: dict[int, LentMapping] = {}
        #: Called back before the answer that lends them came.
        self._early: set[int] = set()
        #: Copies that views are still held of, and their bytes.
        self._copies: dict[LentMapping, int] = {}

    def get(self, number: int) -> LentMapping | None:
        """An extent; None where it was called back meanwhile."""
        return self._extents.get(number)

    @property
    def copied_bytes(self) -> int:
        """What is kept in copies."""
        return sum(self._copies.values())

    def map(self, loans: Sequence[ToldLoan], descriptors: list[int]) -> list[int]:
        """Map what is new among the loans; the extents that the node is to have back at once.
        Closes the descriptors. Raises StoreAnswerWrong."""
        back: list[int] = []
        try:
            for loan in loans:
                if not loan.new:
                    continue
                descriptor = descriptors.pop(0)
                try:
                    extent = LentMapping(descriptor, loan.presence)
                except OSError:  # no mapping left to be had: it is read past
                    back.append(loan.number)
                    continue
                finally:
                    os.close(descriptor)
                with self._lock:
                    early = loan.number in self._early
                    self._early.discard(loan.number)
                    self._extents[loan.number] = extent
                if early:
                    back += self.give_back([loan.number])
        except IndexError:
            raise StoreAnswerWrong("the node lends memory and does not hand it over") from None
        finally:
            close_all(descriptors)
        return back

    def give_back(self, numbers: Sequence[int]) -> list[int]:
        """Let go of what is called back, as far as that can be; the extents that were."""
        self._prune()
        return [number for number in numbers if self._given_back(number)]

    def unmap_all(self) -> None:
        """Nobody says any more whether it may be read; views in use keep their memory."""
        for extent in (*self._extents.values(), *self._copies):
            extent.unmap()

    def abandon_in_child(self) -> None:
        """After a fork: it was lent to the parent."""
        self._lock = threading.Lock()  # a thread of the parent may have held it
        self.unmap_all()

    def _given_back(self, number: int) -> bool:
        with self._lock:
            extent = self._extents.get(number)
            if extent is None:
                if len(self._early) >= MOST_EARLY:
                    self._early.clear()
                self._early.add(number)
                return False
            if extent.unmap():
                del self._extents[number]
                return True
            now = self._clock()
            if extent.called_at is None:
                extent.called_at = now
            if now - extent.called_at < PATIENCE_SECONDS:
                return False
            try:
                count = extent.bytes_there
            except ValueError:  # the session has just ended, and so has what it was lent
                return False
            if self.copied_bytes + count > self._most_copied_bytes:
                return False
            # Before it is copied: what another answer says of it from now on is not in the copy.
            del self._extents[number]
            self._copies[extent] = count
        try:
            extent.replace()
        except OSError as error:
            with self._lock:
                if self._copies.pop(extent, None) is not None:
                    _log.debug("memory of the node stays in use, it was not copied: %s", error)
                    self._extents[number] = extent
                    return False
        except ValueError:
            pass  # its last view went, and another thread has unmapped it
        return True

    def _prune(self) -> None:
        """Let go of the copies that nobody has a view of any more."""
        with self._lock:
            for extent in [extent for extent in self._copies if extent.unmap()]:
                del self._copies[extent]
