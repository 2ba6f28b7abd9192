"""What the node answers to each request: the table of `wire.messages`, row by row."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress

from headrace_cache.node.gauges import Gauges
from headrace_cache.node.session import Lent, Session
from headrace_cache.node.turns import Who
from headrace_cache.reading.open_object import OpenObject
from headrace_cache.wire import messages as m
from headrace_cache.wire import values as v
from headrace_cache.wire.bulletin import Bulletin
from headrace_cache.wire.told import ToldEntry, ToldOpen
from headrace_namespace.entry import Entry
from headrace_namespace.errors import HeadraceError
from headrace_namespace.freshness import Freshness
from headrace_namespace.path import NamespacePath
from headrace_namespace.standing import Standing

#: What an entry takes of a packet beside its texts.
_ENTRY_BYTES = 128
#: Long reads past the cache at once, each of up to `MOST_PAST_BYTES`, three times over while it is
#: sent; more are given `LEAST_PAST_BYTES`.
MOST_LONG_PASTS = 6


class Answers:
    """Answers one request at a time of each of many sessions. Safe to use from many threads."""

    def __init__(self, bulletin: Bulletin, gauges: Gauges) -> None:
        self._bulletin = bulletin
        self._long_pasts = threading.BoundedSemaphore(MOST_LONG_PASTS)
        self._gauges = gauges

    def answer(self, session: Session[Who], request: m.Request) -> tuple[m.Answer, Lent | None]:
        """The answer, and what goes with it. Raises HeadraceError, and ValueError for a request
        that makes no sense."""
        service = session.service
        match request:
            case m.Open(path, max_age, closed, ahead):
                self._close(session, closed)
                kept = [each for each in closed if each.kept]
                return self._open(session, v.path_of(path), v.freshness_of(max_age), ahead, kept)
            case m.Bring(handle, start, stop):
                return self._bring(session, handle, start, stop)
            case m.ReadPast(handle, start, stop):
                return m.Bytes(self._past(session.opened(handle), start, stop)), None
            case m.Close(closed):
                self._close(session, closed)
                return m.Done(), None
            case m.GiveBack(extents):
                session.give_back(extents)
                return m.Done(), None
            case m.Stat(path, max_age):
                entry = service.stat(v.path_of(path), v.freshness_of(max_age))
                return m.Found(v.told_entry(entry)), None
            case m.List(path):
                return self._listed(session, None, service.list(v.path_of(path))), None
            case m.ListMore(listing, stop):
                entries = session.take_listing(listing)
                if stop:
                    return m.Listed(None, []), None
                return self._listed(session, listing, entries), None
            case m.Warm(handle, start, stop):
                return m.Number(session.opened(handle).warm(start, stop)), None
            case m.Explain(path):
                return v.told_explanation(service.explain(v.path_of(path))), None
            case m.Drop(path):
                return m.Number(service.drop(v.path_of(path))), None
            case m.Pin(path):
                return m.Number(service.pin(v.path_of(path))), None
            case m.Unpin(path):
                return m.Number(service.unpin(v.path_of(path))), None
            case m.AskWhy(path):
                return v.told_why(service.why(v.path_of(path))), None
            case m.AskMounts():
                return m.Mounts([v.told_mount(mount) for mount in service.mounts()]), None
            case m.AskStatus():
                return m.ToldStatus(service.status(), os.getpid()), None
            case m.AskTotals():
                return m.ToldTotals(service.totals()), None
            case m.AskNode():
                return m.ToldNode(self._gauges.told(session.peer.user)), None
            case m.Flush():
                service.flush()
                return m.Done(), None
            case m.Changed(paths):
                service.changed([v.path_of(path) for path in paths])
                return m.Done(), None
            case m.Hello() | m.Join():
                raise ValueError("the session has begun already")

    def _past(self, opened: OpenObject, start: int, stop: int) -> bytes:
        """Bytes past the cache: many, where few others are just fetching as many."""
        if not self._long_pasts.acquire(blocking=False):
            return opened.read_at(start, min(stop, start + m.LEAST_PAST_BYTES))
        try:
            return opened.read_at(start, min(stop, start + m.MOST_PAST_BYTES))
        finally:
            self._long_pasts.release()

    def _close(self, session: Session[Who], closed: Sequence[m.Closed]) -> None:
        hits = served = 0
        for each in closed:
            if each.kept:
                hits += each.hits
                served += each.served
                continue
            opened = session.close(each.handle)
            if opened is not None:
                opened.count(each.hits, each.served)
                opened.close()
        if hits or served:
            session.service.reader().count(hits, served)

    def _open(
        self,
        session: Session[Who],
        path: NamespacePath,
        freshness: Freshness | None,
        ahead: Sequence[bytes],
        kept: Sequence[m.Closed],
    ) -> tuple[m.Answer, Lent]:
        # Before the policy is asked: what changes after it is seen by the client at its first read.
        edition, changes, lent = self._bulletin.edition, self._bulletin.changes, Lent()
        opened = session.service.open(path, freshness)
        standing = opened.standing() if freshness is None else None
        told: list[ToldOpen] = []
        try:
            told.append(self._told(session, opened, standing, lent))
            for other in self._opened_ahead(session, ahead, lent):
                told.append(other)
            renewed = [_renewed(session, opened, each) for each in kept[: m.MOST_RENEWED]]
        except BaseException:
            session.unlend(lent)
            for each in told:
                session.close(each.handle)
            raise
        return m.Opened(edition, changes, told[0], told[1:], renewed), lent

    def _opened_ahead(
        self, session: Session[Who], paths: Sequence[bytes], lent: Lent
    ) -> Iterator[ToldOpen]:
        """Those of these paths that can be opened without asking a remote store, as many as go into
        the packet; what is wrong with one, its own open will tell."""
        taken = 0
        for path in paths[: m.MOST_AHEAD]:
            with suppress(HeadraceError):
                found = session.service.open_unasked(v.path_of(path))
                if found is None:
                    continue
                opened, standing = found
                standing = standing or opened.standing()
                if standing is None:
                    opened.close()
                    continue
                told = self._told(session, opened, standing, lent)
                taken += _ENTRY_BYTES + 2 * len(told.path) + len(told.version.key)
                yield told
            if taken >= m.MOST_LISTED_BYTES:
                return

    def _told(
        self, session: Session[Who], opened: OpenObject, standing: Standing | None, lent: Lent
    ) -> ToldOpen:
        handle = session.keep(opened)
        try:
            loans = session.lend(opened, 0, 1, lent, bring=False)
            path, version = v.told_path(opened.path), v.told_version(opened.version)
            told = v.told_standing(standing)
        except BaseException:
            session.close(handle)
            raise
        each = session.extent_bytes(opened)
        cached, restricted = opened.cached, opened.restricted
        return ToldOpen(handle, path, version, restricted, cached, each, loans, told)

    def _bring(
        self, session: Session[Who], handle: int, start: int, stop: int
    ) -> tuple[m.Answer, Lent]:
        edition, opened, lent = self._bulletin.edition, session.opened(handle), Lent()
        try:
            loans = session.lend(opened, start, stop, lent)
        except BaseException:
            session.unlend(lent)
            raise
        return m.Brought(edition, opened.restricted, loans), lent

    def _listed(
        self, session: Session[Who], listing: int | None, entries: Iterator[Entry]
    ) -> m.Listed:
        """As many entries as one packet takes."""
        told: list[ToldEntry] = []
        taken = 0
        for entry in entries:
            told.append(v.told_entry(entry))
            version = entry.version
            taken += _ENTRY_BYTES + 2 * len(told[-1].path)
            taken += 0 if version is None else len(version.ref.key) * 2 + len(version.tag)
            if taken >= m.MOST_LISTED_BYTES:
                break
        else:
            return m.Listed(None, told)
        if listing is None:
            listing = session.begin_listing(entries)
        else:
            session.put_listing(listing, entries)
        return m.Listed(listing, told)


def _renewed(session: Session[Who], opened: OpenObject, kept: m.Closed) -> float:
    """For how many seconds a handle's path may be opened again by it; 0: not without asking."""
    other = session.known(kept.handle)
    # Another mount's is not looked at: a store that stalls holds up none but who asks for it.
    if other is None or other.mount is not opened.mount:
        return 0.0
    if kept.hits or kept.served:
        other.opened_again()
    with suppress(HeadraceError):  # what is wrong with it, its own open will tell
        standing = other.standing()
        if standing is not None and not standing.once:
            return standing.seconds
    return 0.0
