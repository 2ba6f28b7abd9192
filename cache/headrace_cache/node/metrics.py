"""A node's facts as Prometheus reads them. Labels are mounts, tiers and operations: nothing
of an object, and nothing of a user.

Only who has the extra `http` can load this room: `prometheus-client` writes the format.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from headrace_cache.node_facts import NodeFacts, shown_path


def exposition(facts: NodeFacts) -> tuple[bytes, str]:
    """The text of `/metrics`, and its content type."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected(facts))
    return generate_latest(registry), CONTENT_TYPE_LATEST


class _Collected(Collector):
    def __init__(self, facts: NodeFacts) -> None:
        self._facts = facts

    def collect(self) -> Iterator[Metric]:
        """Every family; docs/node.md has the same list."""
        facts, status = self._facts, self._facts.status
        yield InfoMetricFamily(
            "headrace_build", "Which release the node is", {"version": facts.release}
        )
        counters: dict[str, tuple[str, float]] = {
            "hits": ("Reads that found their bytes in memory", status.hits),
            "misses": ("Reads that did not", status.misses),
            "fetched_bytes": ("Bytes that came from the stores", status.bytes_fetched),
            "served_bytes": ("Bytes given to readers", status.bytes_served),
            "answered": ("Requests of clients that were answered", facts.answered),
        }
        for name, (meaning, value) in counters.items():
            yield CounterMetricFamily(f"headrace_{name}", meaning, value)
        yield _store_requests(status.requests)
        yield from _tiers(facts)
        gauges: dict[str, tuple[str, float]] = {
            "start_time_seconds": ("When the node began, since the epoch", facts.since),
            "resident_bytes": ("Bytes of the process in memory", facts.resident_bytes),
            "own_bytes": ("Those of them that are not the cache's", facts.own_bytes),
            "clients": ("Processes that use the node", facts.clients),
            "connections": ("Their connections", facts.connections),
            "most_connections": ("As many as there may be", facts.most_connections),
            "requests_under_way": ("Requests being answered", facts.requests_under_way),
            "requests_waiting": (
                "Requests waiting for their client's turn",
                facts.requests_waiting,
            ),
            "lent_bytes": ("Bytes of memory that clients have mapped", facts.lent_bytes),
            "lent_extents": ("The extents that these are", facts.lent_extents),
            "sealing_bytes": ("Bytes that wait to be sealed on the SSD", facts.sealing_bytes),
            "edition": ("Grows when something was withdrawn", facts.edition),
            "policy_epoch": ("The epoch of the policy in force", facts.policy.epoch),
            "policy_broken": (
                "1 where its file cannot be read: all is denied",
                facts.policy.broken,
            ),
            "ssd_unpurged": (
                "1 where the SSD holds what the policy forbids",
                facts.policy.unpurged,
            ),
        }
        for name, (meaning, value) in gauges.items():
            yield GaugeMetricFamily(f"headrace_{name}", meaning, value)
        flights = GaugeMetricFamily(
            "headrace_flights", "Fetches from stores under way", labels=("mount",)
        )
        for mount in sorted(facts.flights.keys() | status.requests.keys()):
            flights.add_metric((shown_path(mount),), facts.flights.get(mount, 0))
        yield flights


def _store_requests(requests: Mapping[str, Mapping[str, int]]) -> Metric:
    asked = CounterMetricFamily(
        "headrace_store_requests", "Requests to each mount's store", labels=("mount", "operation")
    )
    for mount, counts in sorted(requests.items()):
        for operation, count in sorted(counts.items()):
            asked.add_metric((shown_path(mount), operation), count)
    return asked


def _tiers(facts: NodeFacts) -> Iterator[Metric]:
    amounts = GaugeMetricFamily(
        "headrace_tier_bytes", "Bytes that a tier holds and may hold", labels=("tier", "state")
    )
    objects = GaugeMetricFamily(
        "headrace_tier_objects", "Objects of which a tier holds something", labels=("tier",)
    )
    for name, tier in sorted(facts.status.tiers.items()):
        amounts.add_metric((name, "used"), tier.used)
        amounts.add_metric((name, "limit"), tier.limit)
        objects.add_metric((name,), tier.objects)
    yield amounts
    yield objects
