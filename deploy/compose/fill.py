"""Makes the bucket and a data set of Parquet files, as somebody else's job would have."""

from __future__ import annotations

import contextlib
import io
import os

import botocore.session
import pandas as pd

FILES = 4
ROWS = 250_000

store = botocore.session.get_session().create_client(
    "s3",
    region_name="us-east-1",
    endpoint_url=os.environ["HEADRACE_S3"],
    aws_access_key_id=os.environ["S3_KEY"],
    aws_secret_access_key=os.environ["S3_SECRET"],
)
with contextlib.suppress(store.exceptions.BucketAlreadyOwnedByYou):
    store.create_bucket(Bucket="lake")
for number in range(FILES):
    first = number * ROWS
    order = pd.RangeIndex(first, first + ROWS)
    table = pd.DataFrame({"order": order, "cents": order.to_numpy() * 37 % 10_007})
    raw = io.BytesIO()
    table.to_parquet(raw, index=False)
    store.put_object(Bucket="lake", Key=f"orders/{number}.parquet", Body=raw.getvalue())
print(f"filled s3://lake/orders with {FILES} files of {ROWS} rows")
