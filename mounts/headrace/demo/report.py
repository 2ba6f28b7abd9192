"""How the demo's outcome is shown: a few short tables, or one JSON document."""

from __future__ import annotations

import dataclasses
import sys

from headrace.cli.printing import print_json, print_table
from headrace.demo.outcome import Outcome
from headrace_namespace.units import format_bytes


def print_outcome(outcome: Outcome) -> None:
    """The outcome for people; the last line says whether all of it held."""
    _line(f"{outcome.flights:,} flights joined with airports and weather by pandas.read_parquet")
    _line('and pandas.read_csv over "headrace:///…". Latest arrivals at 20 mph of wind and more:\n')
    print_table(
        ("airport", "flights", "minutes late"),
        [(name, str(flights), f"{delay:.1f}") for name, flights, delay in outcome.answer],
        right="-rr",
    )
    _line("\nReading the tables, seconds (direct and warm: best of 3):\n")
    print_table(
        ("source", "direct", "cold", "warm", "restarted", "fetched cold", "fetched warm"),
        [
            (
                source.name,
                f"{source.direct.seconds:.3f}",
                f"{source.cold.seconds:.3f}",
                f"{source.warm.seconds:.3f}",
                f"{source.restarted.seconds:.3f}",
                format_bytes(source.cold.bytes_fetched or 0),
                format_bytes(source.warm.bytes_fetched or 0),
            )
            for source in outcome.sources
        ],
        right="-rrrrrr",
    )
    _line("\nThe bucket is on this machine, so no network is in these times. What headrace spares")
    _line("is in the last column: read again, the tables fetched nothing.")
    _line("\nOne rule of the policy keeps /bucket/restricted in memory only:\n")
    print_table(
        ("file", "policy", "in memory", "sealed on SSD", "readable on disk"),
        [
            (
                kept.path,
                kept.persistence,
                "yes" if kept.memory_objects and not kept.fetched_again else "no",
                "yes" if kept.ssd_objects else "no",
                f"in {kept.files_with_canary} of {outcome.search.files} files",
            )
            for kept in outcome.kept
        ],
    )
    _line("\nWhat each tier held then:\n")
    print_table(
        ("tier", "used", "limit", "objects"),
        [
            (name, format_bytes(tier.used), format_bytes(tier.limit), str(tier.objects))
            for name, tier in outcome.status.tiers.items()
        ],
        right="-rrr",
    )
    _line("")
    for check in outcome.checks:
        _line(f"{'yes' if check.holds else 'NO '}  {check.claim}")
    held = sum(check.holds for check in outcome.checks)
    count = len(outcome.checks)
    _line(
        f"\nheadrace demo: {held} of {count} claims held, in {outcome.seconds:.1f} s; "
        "nothing is left behind."
    )


def print_outcome_json(outcome: Outcome) -> None:
    """The outcome for programs."""
    print_json(
        dataclasses.asdict(outcome)
        | {
            "checks": [dataclasses.asdict(check) for check in outcome.checks],
            "ok": all(check.holds for check in outcome.checks),
        }
    )


def _line(text: str) -> None:
    sys.stdout.write(text + "\n")
