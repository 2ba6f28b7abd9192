"""How `top` draws a view: lines of text that fit the terminal, whatever colours it has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from headrace.cli.printing import escaped
from headrace.cli.status import hit_ratio
from headrace.cli.top_view import View, tiers_on
from headrace_cache.node_facts import ClientFacts, NodeFacts
from headrace_cache.principals import name_of_user
from headrace_namespace.units import format_bytes

if TYPE_CHECKING:
    from rich.text import Text

#: Mounts with fetches under way that are named.
MOUNTS_NAMED = 4
#: The column in which each line's figures begin, and the narrowest bar of a tier.
_LABEL = 9
_NARROWEST_BAR = 10
_KEYS = "q ends, s orders clients by bytes or requests"


def screen(view: View, width: int, height: int, *, order: str, note: str = "") -> Text:
    """The view in so many columns and lines, and never more. `note` says what is wrong with the
    looking, such as a node that is gone."""
    from rich.text import Text

    above = [*_about(view.facts), "", *_tiers(view.facts, width), "", *_rates(view)]
    above += _flights(view.facts)
    shown = Text(no_wrap=True, overflow="crop")
    health = note or (view.troubles[0] if view.troubles else "all is well")
    if not note and len(view.troubles) > 1:
        health += f" (and {len(view.troubles) - 1} more)"
    style = "bold red" if note or view.troubles else "green"
    lines: list[tuple[str, str]] = [(line, "") for line in above[:2]]
    lines += [(f"health   {health}", style), *((line, "") for line in above[2:])]
    room = max(0, height - len(lines) - 4)
    lines += [("", ""), *_clients(view, room, order), (_KEYS, "dim")]
    for number, (line, style) in enumerate(lines[:height]):
        shown.append(("\n" if number else "") + _cut(line, width), style=style)
    return shown


def _about(facts: NodeFacts) -> list[str]:
    own, resident = format_bytes(facts.own_bytes), format_bytes(facts.resident_bytes)
    return [
        f"headrace node {escaped(facts.release)}, process {facts.process}, "
        f"up {_age(facts.seconds_up)}",
        f"process  {own} of its own, {resident} with the cache; "
        f"policy of epoch {facts.policy.epoch}",
    ]


def _tiers(facts: NodeFacts, width: int) -> list[str]:
    said: dict[str, str] = {}
    for name in tiers_on(facts):
        tier = facts.status.tiers[name]
        said[name] = f" {format_bytes(tier.used)} of {format_bytes(tier.limit)}"
        if name == "memory":
            said[name] += f", {format_bytes(facts.lent_bytes)} lent"
        if tier.waiting:
            said[name] += f", {format_bytes(tier.waiting)} to seal"
    beside = _LABEL + 2 + max(map(len, said.values()), default=0)
    bar = max(_NARROWEST_BAR, width - beside)
    lines: list[str] = []
    for name, words in said.items():
        tier = facts.status.tiers[name]
        lent = facts.lent_bytes if name == "memory" else 0
        lines.append(f"{name:<{_LABEL}}[{bar_of(tier.used, lent, tier.limit, bar)}]{words}")
    return lines


def bar_of(used: int, lent: int, limit: int, width: int) -> str:
    """A tier in `width` characters: `=` lent, `#` held besides, `.` free."""
    full = min(width, round(width * used / limit))
    if used:
        full = max(1, full)
    mapped = min(full, round(width * lent / limit))
    return "=" * mapped + "#" * (full - mapped) + "." * (width - full)


def _rates(view: View) -> list[str]:
    facts, rates = view.facts, view.rates
    status = facts.status
    total = _share(hit_ratio(status.hits, status.misses))
    if rates is None:
        lines = ["reads    -", "bytes    -", f"requests {facts.requests_under_way} under way"]
    else:
        lines = [
            f"reads    {rates.hits:,.0f} hits/s, {rates.misses:,.0f} misses/s, "
            f"hit ratio {_share(rates.hit_ratio)} (in all {total})",
            f"bytes    {_bytes(rates.bytes_served)}/s served, "
            f"{_bytes(rates.bytes_fetched)}/s fetched",
            f"requests {rates.answered:,.0f}/s answered, {facts.requests_under_way} under way, "
            f"{facts.requests_waiting} waiting",
        ]
    return lines


def _flights(facts: NodeFacts) -> list[str]:
    busy = sorted(facts.flights.items(), key=lambda each: (-each[1], each[0]))
    named = ", ".join(f"{escaped(mount)} {count}" for mount, count in busy[:MOUNTS_NAMED])
    more = f", {len(busy) - MOUNTS_NAMED} more mounts" if len(busy) > MOUNTS_NAMED else ""
    return [f"fetches  {sum(facts.flights.values())} under way{': ' if busy else ''}{named}{more}"]


_COLUMNS = ("client", "process", "user", "open", "extents", "lent", "owed", "requests", "req/s")
_WIDTHS = (6, 9, 11, 6, 8, 10, 5, 9, 6)


def _clients(view: View, room: int, order: str) -> list[tuple[str, str]]:
    """A heading, and as many clients as there is room for."""
    facts = view.facts
    mapped = f"; extents lent {facts.lent_extents}"
    lines = [
        (f"clients  {facts.clients}, by {order}; connections {facts.connections}{mapped}", "bold"),
        (_row(_COLUMNS), "bold"),
    ]
    shown = view.clients[:room]
    left = facts.clients - len(shown)
    if left and shown:
        shown = shown[: room - 1]
        left = facts.clients - len(shown)
    lines += [(_row(_cells(each, view.asked.get(each.number))), "") for each in shown]
    if left and room:
        lines.append((f"and {left} more", "dim"))
    return lines


def _cells(client: ClientFacts, asked: float | None) -> Sequence[str]:
    user = name_of_user(client.user) or str(client.user)
    return (
        str(client.number),
        str(client.process),
        escaped(user)[: _WIDTHS[2] - 1],
        str(client.handles),
        str(client.extents),
        format_bytes(client.lent_bytes),
        str(client.called_back),
        str(client.answered),
        "-" if asked is None else f"{asked:,.0f}",
    )


def _row(cells: Sequence[str]) -> str:
    return " ".join(cell.rjust(width) for cell, width in zip(cells, _WIDTHS, strict=True))


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else line[: max(0, width - 1)] + ">"


def _share(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.1%}"


def _bytes(amount: float) -> str:
    return format_bytes(round(amount))


def _age(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return (
        f"{days} d {hours:02}:{minutes:02}:{rest:02}"
        if days
        else f"{hours:02}:{minutes:02}:{rest:02}"
    )
