"""`GET /metrics` of the node's HTTP door is what Prometheus reads."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families as parsed

from tests.cache.node.http.conftest import HttpWorld


def test_prometheus_reads_it(world: HttpWorld) -> None:
    world.put("a", 1000)
    world.node()
    for _ in range(3):
        assert world.ask("GET", "/v1/tree/data/a").status == 200
    answer = world.ask("GET", "/metrics")
    assert answer.status == 200 and answer.headers["Content-Type"].startswith("text/plain")
    told = {
        sample.name: sample.value
        for family in parsed(answer.body.decode())
        for sample in family.samples
    }
    assert told["headrace_fetched_bytes_total"] == 1000
    # Not when its handle is let go of, which may be minutes later.
    assert told["headrace_served_bytes_total"] == 3000
    assert told["headrace_answered_total"] == 3
    assert answer.headers["Server"] == "headrace"
    assert told["headrace_build_info"] == 1
