"""Facts of a node as tests like them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from headrace_cache.node_facts import ClientFacts, NodeFacts, PolicyFacts
from headrace_cache.service import Status
from headrace_cache.tiers.protocol import TierUsage

MIB = 1 << 20

STATUS = Status(
    tiers={"memory": TierUsage(32 * MIB, 64 * MIB, 3), "ssd": TierUsage(MIB, 128 * MIB, 3, 77)},
    hits=90,
    misses=10,
    bytes_fetched=10 * MIB,
    bytes_served=100 * MIB,
    requests={"/lake": {"read": 10, "stat": 3}, "/more": {"list": 1}},
)


def client(number: int, *, lent: int = 0, answered: int = 0, user: int = 1000) -> ClientFacts:
    return ClientFacts(number, 4000 + number, user, 100.5, 2, 3, lent, 1, answered)


def facts(**changes: Any) -> NodeFacts:
    """Any of `NodeFacts`' fields may be another."""
    made = NodeFacts(
        release="1.2.3",
        process=77,
        since=1000.0,
        seconds_up=90061.0,
        resident_bytes=50 * MIB,
        own_bytes=30 * MIB,
        connections=3,
        most_connections=100,
        clients=2,
        rows=[client(1, lent=MIB, answered=5), client(2, lent=8 * MIB, answered=2)],
        requests_under_way=1,
        requests_waiting=0,
        answered=7,
        lent_bytes=9 * MIB,
        lent_extents=6,
        flights={"/lake": 4},
        mounts_left_out=0,
        sealing_bytes=77,
        edition=5,
        policy=PolicyFacts(2, broken=False, unpurged=False),
        status=STATUS,
    )
    return replace(made, **changes)
