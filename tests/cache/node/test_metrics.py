"""What Prometheus reads of a node: parsed back, named as the docs say, and never falling."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families as parsed

from headrace_cache.node.metrics import exposition
from headrace_cache.node_facts import NodeFacts, PolicyFacts
from headrace_cache.wire import messages as m
from headrace_namespace.errors import ConfigError
from tests.cache.node.conftest import MIB, World, path, whole
from tests.cache.node.made_facts import STATUS, facts

DOCS = Path(__file__).parents[3] / "docs/node.md"
CANARY = "zanzibar-7f3a"

Sample = tuple[str, tuple[tuple[str, str], ...]]


def samples(told: NodeFacts) -> dict[Sample, float]:
    """Every sample by its name and labels."""
    body, kind = exposition(told)
    assert kind.startswith("text/plain")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parsed(body.decode())
        for sample in family.samples
    }


def test_every_fact_is_there() -> None:
    told = samples(facts(policy=PolicyFacts(2, broken=True, unpurged=False)))
    assert told["headrace_build_info", (("version", "1.2.3"),)] == 1
    assert told["headrace_hits_total", ()] == 90
    assert told["headrace_served_bytes_total", ()] == 100 * MIB
    assert told["headrace_tier_bytes", (("state", "limit"), ("tier", "memory"))] == 64 * MIB
    assert told["headrace_tier_bytes", (("state", "used"), ("tier", "ssd"))] == MIB
    requests = ("headrace_store_requests_total", (("mount", "/lake"), ("operation", "read")))
    assert told[requests] == 10
    assert told["headrace_flights", (("mount", "/lake"),)] == 4
    assert told["headrace_flights", (("mount", "/more"),)] == 0  # so that no series has holes
    assert told["headrace_policy_broken", ()] == 1 and told["headrace_ssd_unpurged", ()] == 0
    assert told["headrace_lent_bytes", ()] == 9 * MIB


def test_the_docs_have_every_name() -> None:
    table = DOCS.read_text().partition("## What to watch")[2].partition("\n## ")[0]
    documented = set(re.findall(r"^\| `(headrace_\w+)", table, re.MULTILINE))
    assert documented == {name for name, _ in samples(facts())}
    used = set(re.findall(r"\bheadrace_\w+", table))
    assert used == documented, "an alert asks for what there is not"


def test_a_mounts_path_may_hold_anything() -> None:
    odd = '/a"b\\c\n\udcff'
    body, _ = exposition(facts(flights={odd: 1}))
    names = [
        sample.labels["mount"]
        for family in parsed(body.decode())
        for sample in family.samples
        if sample.name == "headrace_flights" and sample.value == 1
    ]
    assert names == ['/a"b\\c\n\\udcff']


def test_counters_never_fall_and_hold_no_name_of_an_object(world: World) -> None:
    for each in range(4):
        world.put(f"{CANARY}-{each}", MIB)
    node = world.node()
    job = world.client()
    before = samples(node.facts())
    for each in range(12):
        opened = job.open(path(f"{CANARY}-{each % 4}"))
        assert len(whole(opened)) == MIB
        opened.close()
        if each == 6:
            connection = job._node()  # pyright: ignore[reportPrivateUsage]
            assert connection is not None
            wrong = connection.open(f"/data/{CANARY}-0".encode(), None, [])
            with pytest.raises(ConfigError, match="nonsense"):
                connection.ask(m.Close([m.Closed(wrong.asked.handle, -99, -99 * MIB)]), m.Done)
        told = node.facts()
        assert CANARY not in exposition(told)[0].decode()
        now = samples(told)
        for name, value in before.items():
            if name[0].endswith("_total"):
                assert now[name] >= value, name
        before = now
    read = ("headrace_store_requests_total", (("mount", "/data"), ("operation", "read")))
    assert before[read] >= 4 and before["headrace_fetched_bytes_total", ()] == 4 * MIB


@pytest.mark.parametrize("name", ["hits", "answered"])
def test_a_counter_is_called_one(name: str) -> None:
    assert f"# TYPE headrace_{name}_total counter" in exposition(facts(status=STATUS))[0].decode()


def test_a_node_needs_no_library_for_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    node = world.node()
    assert b"headrace_clients 0" in node.exposition()[0]
    monkeypatch.delitem(sys.modules, "headrace_cache.node.metrics")
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ConfigError, match=r"headrace\[http\]"):
        node.exposition()
    assert world.client().mounts()  # it serves on
