"""`status`: what the cache holds, and what it has saved."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING

import click

from headrace.cli.call import Call, json_option, pass_call
from headrace.cli.commands import Described
from headrace.cli.exit_codes import WORKING
from headrace.cli.printing import print_facts, print_json, print_table, shown_time
from headrace_namespace.units import format_bytes

if TYPE_CHECKING:
    from headrace_cache.service import AnsweringNode, Status, Totals

#: The tiers, nearest first; one that is not there is off.
TIERS = ("memory", "ssd")

#: How wide a tier's bar is, in characters.
BAR_WIDTH = 20

_COUNTS = ("hits", "misses", "bytes_fetched", "bytes_served", "requests")


@click.command(
    cls=Described,
    examples=("headrace status", "headrace status --json | jq .hit_ratio"),
    codes=WORKING,
)
@json_option
@pass_call
def status(call: Call, as_json: bool) -> None:
    """Show whose cache answers, how full it is, and what it has saved.

    Hits, bytes and requests are those of all processes that share the cache folder. The memory
    tier is the node's; without a node it is this process's own, so here it is empty.
    """
    service = call.service()
    now, totals = service.status(), service.totals()
    tiers = {name: tier for name, tier in now.tiers.items() if tier.limit}
    ratio = hit_ratio(totals.hits, totals.misses)
    saved = bytes_saved(totals.bytes_served, totals.bytes_fetched)
    if as_json:
        print_json(
            {
                "node": dataclasses.asdict(now.node) if now.node else None,
                "tiers": {name: dataclasses.asdict(tier) for name, tier in tiers.items()},
                "since": totals.since,
                **_counts(totals),
                "hit_ratio": ratio,
                "bytes_saved": saved,
                "process": _counts(now),
            }
        )
        return
    print_table(
        ("tier", "fill", "used", "limit", "objects"),
        [
            (
                name,
                _bar(tier.used / tier.limit),
                format_bytes(tier.used),
                format_bytes(tier.limit),
                str(tier.objects),
            )
            if (tier := tiers.get(name))
            else (name, "off", "-", "-", "-")
            for name in TIERS
        ],
        right="--rrr",
    )
    sys.stdout.write("\n")
    print_facts(
        {
            "answered by": _answered(call, now.node),
            "since": shown_time(totals.since),
            "hit ratio": "-" if ratio is None else f"{ratio:.1%}",
            "served": format_bytes(totals.bytes_served),
            "fetched": format_bytes(totals.bytes_fetched),
            "saved": format_bytes(saved),
        }
    )
    requests = [
        (mount, operation, str(count))
        for mount, counts in sorted(totals.requests.items())
        for operation, count in sorted(counts.items())
        if count
    ]
    if requests:
        sys.stdout.write("\n")
        print_table(("mount", "operation", "requests"), requests, right="--r")


def _answered(call: Call, node: AnsweringNode | None) -> str:
    """Whose cache has answered, and where it is this process's own, why."""
    from headrace_mounts.connect import why_by_itself

    if node is None:
        return f"a cache of this process: {why_by_itself(call.config)}"
    process = "" if node.process is None else f", process {node.process}"
    return f"the node at {node.address}{process}"


def hit_ratio(hits: int, misses: int) -> float | None:
    """The share of reads that found their bytes in memory; None before the first read."""
    return hits / (hits + misses) if hits + misses else None


def bytes_saved(served: int, fetched: int) -> int:
    """Bytes given to readers that no store had to send; never below 0, where much was warmed."""
    return max(0, served - fetched)


def _counts(counted: Status | Totals) -> dict[str, object]:
    return {name: getattr(counted, name) for name in _COUNTS}


def _bar(share: float) -> str:
    """How full, as a bar of `BAR_WIDTH` characters: `###.......`; no terminal lacks these."""
    full = min(BAR_WIDTH, round(share * BAR_WIDTH))
    if share > 0:
        full = max(1, full)
    return "#" * full + "." * (BAR_WIDTH - full)
