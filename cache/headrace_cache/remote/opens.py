"""One call that opens an object, and with it those that are likely to be opened next."""

from __future__ import annotations

from headrace_cache.remote.ahead import Ahead
from headrace_cache.remote.connection import NodeConnection
from headrace_cache.remote.hold import Hold, entered_hold
from headrace_cache.wire.messages import MOST_LISTED_BYTES
from headrace_cache.wire.values import raw, told_age, told_path
from headrace_namespace.freshness import Freshness
from headrace_namespace.path import NamespacePath


def opened_at(
    node: NodeConnection, ahead: Ahead, path: NamespacePath, freshness: Freshness | None
) -> Hold:
    """What the node opened. What it opened with that may be opened without a call for a while.

    Raises what the node says, and NodeGone.
    """
    following = () if freshness is not None else ahead.after(path)
    asked, taken = list[bytes](), 0
    for each in following:
        asked.append(raw(each))
        taken += len(asked[-1]) + 8
        if taken >= MOST_LISTED_BYTES:
            break
    asked_at = node.leases.now()
    opened = node.open(told_path(path), told_age(freshness), asked)
    first = entered_hold(node, opened.edition, opened.asked)
    if freshness is None:
        node.leases.add(first, opened.asked, opened.changes, asked_at)
    for told in opened.ahead:
        hold = entered_hold(node, opened.edition, told)
        node.leases.add(hold, told, opened.changes, asked_at)
    return first
