"""Turns of each store: a request that may wait for one store leaves threads to those for others."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

from headrace_cache.node.session import Session
from headrace_cache.node.turns import Turns, Who
from headrace_cache.wire import messages as m
from headrace_cache.wire import values as v
from headrace_namespace.errors import HeadraceError
from headrace_namespace.path import NamespacePath

Other = TypeVar("Other")

#: Requests answered at once that ask for objects of one mount. Of a store, 16 threads fetch and 8
#: look at what is there (`offload.py`): more requests than these would only wait.
MOST_OF_A_STORE = 24


class StoreTurns(Generic[Who]):
    """Safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: By the mount's path, while somebody has one.
        self._turns: WeakValueDictionary[str, Turns[Who]] = WeakValueDictionary()

    def of(self, session: Session[Other], request: m.Request) -> Turns[Who] | None:
        """Those of the mount that `request` may wait for; None where it waits for none."""
        with suppress(HeadraceError, ValueError):  # the answer will say what is wrong
            path = _asked_for(session, request)
            mount = None if path is None else session.service.mount_of(path)
            if mount is not None:
                with self._lock:
                    name = mount.path.text
                    turns = self._turns.get(name)
                    if turns is None:
                        turns = Turns[Who](MOST_OF_A_STORE)
                        self._turns[name] = turns
                    return turns
        return None


def _asked_for(session: Session[Other], request: m.Request) -> NamespacePath | None:
    """The path whose store is asked, perhaps. Raises HeadraceError, ValueError."""
    match request:
        case m.Bring() | m.ReadPast() | m.Warm():
            return session.opened(request.handle).path
        case m.Open() | m.Stat() | m.List() | m.Explain() | m.Drop() | m.Pin() | m.Unpin():
            return v.path_of(request.path)
        case m.AskWhy():
            return v.path_of(request.path)
        case m.Changed():
            return v.path_of(request.paths[0]) if request.paths else None
        case _:
            return None
