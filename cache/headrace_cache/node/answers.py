"""What the node answers to each request: the table of `wire.messages`, row by row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from headrace_cache.node.gauges import Gauges
from headrace_cache.node.session import Lent, Session
from headrace_cache.node.turns import Who
from headrace_cache.wire import messages as m
from headrace_cache.wire import values as v
from headrace_cache.wire.bulletin import Bulletin
from headrace_cache.wire.told import ToldEntry
from headrace_namespace.entry import Entry

#: What an entry takes of a packet beside its texts.
_ENTRY_BYTES = 128


class Answers:
    """Answers one request at a time of each of many sessions. Safe to use from many threads."""

    def __init__(self, bulletin: Bulletin, gauges: Gauges) -> None:
        self._bulletin = bulletin
        self._gauges = gauges

    def answer(self, session: Session[Who], request: m.Request) -> tuple[m.Answer, Lent | None]:
        """The answer, and what goes with it. Raises HeadraceError, and ValueError for a request
        that makes no sense."""
        service = session.service
        match request:
            case m.Open(path, max_age, closed):
                self._close(session, closed)
                return self._open(session, path, max_age)
            case m.Bring(handle, start, stop):
                return self._bring(session, handle, start, stop)
            case m.ReadPast(handle, start, stop):
                stop = min(stop, start + m.MOST_PAST_BYTES)
                return m.Bytes(session.opened(handle).read_at(start, stop)), None
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
                return m.ToldStatus(service.status()), None
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

    def _close(self, session: Session[Who], closed: Sequence[m.Closed]) -> None:
        for each in closed:
            opened = session.close(each.handle)
            if opened is not None:
                opened.count(each.hits, each.served)
                opened.close()

    def _open(
        self, session: Session[Who], path: bytes, max_age: float | None
    ) -> tuple[m.Answer, Lent | None]:
        # Before the policy is asked: what changes after it is seen by the client at its first read.
        edition = self._bulletin.edition
        opened = session.service.open(v.path_of(path), v.freshness_of(max_age))
        handle = session.keep(opened)
        try:
            lent = session.lend(opened, 0, 1, bring=False)
        except BaseException:
            session.close(handle)
            raise
        answer = m.Opened(
            handle,
            v.told_path(opened.path),
            v.told_version(opened.version),
            opened.restricted,
            edition,
            lent.told,
        )
        return answer, lent

    def _bring(
        self, session: Session[Who], handle: int, start: int, stop: int
    ) -> tuple[m.Answer, Lent | None]:
        edition, opened = self._bulletin.edition, session.opened(handle)
        lent = session.lend(opened, start, stop)
        return m.Brought(edition, opened.restricted, lent.told), lent

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
