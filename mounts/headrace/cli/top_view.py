"""What `top` shows, reckoned from two looks at the node: values alone, no terminal."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from headrace.cli.status import TIERS, hit_ratio
from headrace_cache.node_facts import ClientFacts, NodeFacts
from headrace_namespace.units import format_bytes

#: By what the clients can be ordered.
ORDERS = ("bytes", "requests")

#: Of a bound: where so much is used, something should be done before it is reached.
NEAR = 0.9


@dataclass(frozen=True, slots=True)
class Rates:
    """What happened between two looks, a second. `hit_ratio` is of the reads between them, None
    where there were none."""

    hits: float
    misses: float
    hit_ratio: float | None
    bytes_served: float
    bytes_fetched: float
    answered: float


@dataclass(frozen=True, slots=True)
class View:
    """One screen. `rates` and a client's requests a second (`asked`, by its number) are only known
    after two looks at one node. `troubles` are sentences, the worst first."""

    facts: NodeFacts
    rates: Rates | None
    clients: Sequence[ClientFacts]
    asked: dict[int, float]
    troubles: Sequence[str]


def view_of(before: NodeFacts | None, now: NodeFacts, order: str = "bytes") -> View:
    """What to show of a look, with the one before it."""
    seconds = _seconds_between(before, now)
    asked: dict[int, float] = {}
    if before is not None and seconds is not None:
        earlier = {row.number: row.answered for row in before.rows}
        asked = {
            row.number: max(0, row.answered - earlier[row.number]) / seconds
            for row in now.rows
            if row.number in earlier
        }

    def place(row: ClientFacts) -> tuple[float, float, int]:
        by = (asked.get(row.number, 0.0), float(row.answered))
        first = float(row.lent_bytes) if order == "bytes" else by[0]
        return (-first, -by[1], row.number)

    rates = None
    if before is not None and seconds is not None:
        rates = rates_of(before, now, seconds)
    return View(now, rates, sorted(now.rows, key=place), asked, troubles_of(now))


def rates_of(before: NodeFacts, now: NodeFacts, seconds: float) -> Rates:
    """What two looks at one node tell of the seconds between them."""

    def grown(earlier: int, later: int) -> int:
        return max(0, later - earlier)

    hits = grown(before.status.hits, now.status.hits)
    misses = grown(before.status.misses, now.status.misses)
    return Rates(
        hits=hits / seconds,
        misses=misses / seconds,
        hit_ratio=hit_ratio(hits, misses),
        bytes_served=grown(before.status.bytes_served, now.status.bytes_served) / seconds,
        bytes_fetched=grown(before.status.bytes_fetched, now.status.bytes_fetched) / seconds,
        answered=grown(before.answered, now.answered) / seconds,
    )


def troubles_of(facts: NodeFacts) -> list[str]:
    """What an operator should see to; nothing where all is well."""
    said: list[str] = []
    if facts.policy.broken:
        said.append("the policy file cannot be read: everything is denied until it is mended")
    if facts.policy.unpurged:
        said.append(
            "the SSD holds what the policy forbids, and is not used until that is destroyed"
        )
    memory = facts.status.tiers.get("memory")
    if memory is not None and facts.lent_bytes >= NEAR * memory.limit > 0:
        lent = format_bytes(facts.lent_bytes)
        said.append(f"clients have {lent} of memory mapped: others read past the cache")
    if facts.connections >= NEAR * facts.most_connections:
        said.append(f"{facts.connections} of {facts.most_connections} connections are taken")
    if facts.requests_waiting:
        said.append(f"{facts.requests_waiting} requests wait for their client's turn")
    return said


def document_of(view: View) -> dict[str, object]:
    """The look for programs, as the schema of `top` says it."""
    facts = view.facts
    status = facts.status
    return {
        "release": facts.release,
        "process": facts.process,
        "since": facts.since,
        "seconds_up": facts.seconds_up,
        "resident_bytes": facts.resident_bytes,
        "own_bytes": facts.own_bytes,
        "connections": facts.connections,
        "most_connections": facts.most_connections,
        "clients": [dataclasses.asdict(row) for row in view.clients],
        "clients_left_out": facts.clients_left_out,
        "requests_under_way": facts.requests_under_way,
        "requests_waiting": facts.requests_waiting,
        "answered": facts.answered,
        "lent_bytes": facts.lent_bytes,
        "lent_extents": facts.lent_extents,
        "flights": dict(facts.flights),
        "mounts_left_out": facts.mounts_left_out,
        "sealing_bytes": facts.sealing_bytes,
        "edition": facts.edition,
        "policy": dataclasses.asdict(facts.policy),
        "tiers": {name: dataclasses.asdict(status.tiers[name]) for name in tiers_on(facts)},
        "hits": status.hits,
        "misses": status.misses,
        "bytes_fetched": status.bytes_fetched,
        "bytes_served": status.bytes_served,
        "requests": {mount: dict(counts) for mount, counts in status.requests.items()},
        "hit_ratio": hit_ratio(status.hits, status.misses),
        "rates": None if view.rates is None else dataclasses.asdict(view.rates),
        "troubles": list(view.troubles),
    }


def tiers_on(facts: NodeFacts) -> list[str]:
    """The tiers that are on, nearest first."""
    tiers = facts.status.tiers
    return [name for name in TIERS if name in tiers and tiers[name].limit]


def _seconds_between(before: NodeFacts | None, now: NodeFacts) -> float | None:
    """None where they are not two looks at one node, one after the other."""
    if before is None or (before.process, before.since) != (now.process, now.since):
        return None
    seconds = now.seconds_up - before.seconds_up
    return seconds if seconds > 0 else None
