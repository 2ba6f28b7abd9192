"""One call that opens an object, and with it those that are likely to be opened next."""

from __future__ import annotations

from headrace_cache.remote.ahead import Ahead
from headrace_cache.remote.connection import NodeConnection
from headrace_cache.remote.hold import Hold, entered_hold
from headrace_cache.wire.messages import MOST_LISTED_BYTES
from headrace_cache.wire.values import raw, told_age, told_path
from headrace_namespace.errors import HeadraceError
from headrace_namespace.freshness import Freshness
from headrace_namespace.path import NamespacePath


def opened_at(
    node: NodeConnection, ahead: Ahead, path: NamespacePath, freshness: Freshness | None
) -> Hold:
    """What the node opened. What it opened with that may be opened without a call for a while, and
    so may what was open before and stands on.

    Raises what the node says, and NodeGone.
    """
    leases = node.leases
    following = () if freshness is not None else ahead.after(path)
    # Who has listed them and asks for one after another: what he had open did not stand on.
    renews = freshness is None and not following
    run_out = leases.to_renew(path.text) if renews else []
    asked, taken = list[bytes](), 0
    for each in following:
        asked.append(raw(each))
        taken += len(asked[-1]) + 8
        if taken >= MOST_LISTED_BYTES:
            break
    asked_at, kept = leases.now(), [each.hold.kept() for each in run_out]
    try:
        opened = node.open(told_path(path), told_age(freshness), asked, kept)
    except HeadraceError:
        leases.keep(run_out)
        raise
    todo = [opened.asked, *opened.ahead]
    try:
        first = entered_hold(node, opened.edition, todo[0])
        del todo[0]
        if freshness is None:
            leases.add(first, opened.asked, opened.changes, asked_at)
            leases.renew(run_out, opened, asked_at)
        else:
            # Who has asked for now and then asks as usual is not given what was before that.
            leases.disprove(first)
        while todo:
            hold = entered_hold(node, opened.edition, todo[0])
            leases.add(hold, todo.pop(0), opened.changes, asked_at)
    except BaseException:  # interrupted: the node is to know that nobody has them
        for told in todo:
            node.forget_handle(told.handle, 0, 0)
        raise
    return first
