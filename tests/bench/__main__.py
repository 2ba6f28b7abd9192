"""All benchmarks, one after the other: `make bench`. Each can be run alone."""

from __future__ import annotations

from tests.bench import (
    cold_s3,
    listing,
    node,
    ssd_restart,
    ssd_tier,
    warm_open,
    warm_parquet,
)

for bench in (warm_parquet, warm_open, node, cold_s3, listing, ssd_restart, ssd_tier):
    bench.main()
