"""An ordinary pandas job; that its bytes come from the node's memory, it knows nothing of."""

from __future__ import annotations

import pandas as pd

import headrace

cache = headrace.connect()  # asked for its counts alone
for reading in ("first", "second"):
    before = cache.status().bytes_fetched
    orders = pd.read_parquet("headrace:///lake/orders")
    fetched = cache.status().bytes_fetched - before
    print(f"{reading} reading: {len(orders)} orders, {orders['cents'].sum()} cents; ", end="")
    print(f"the node fetched {fetched} bytes")
