"""All benchmarks, one after the other: `make bench`. Each can be run alone."""

from __future__ import annotations

from tests.bench import cold_s3, ssd_tier, warm_parquet

for bench in (warm_parquet, cold_s3, ssd_tier):
    bench.main()
