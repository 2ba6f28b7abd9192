"""As `blocks`, for Parquet: each row carries the version's number and its own index."""

from __future__ import annotations

import io
from importlib import import_module
from typing import Any

import numpy as np

from tests.races.blocks import WrongBytes

# They publish no types, or partial ones. (`tests.untyped` would bring all such libraries, and each
# process of these tests needs but these.)
pa: Any = import_module("pyarrow")
pq: Any = import_module("pyarrow.parquet")


def table(version: int, rows: int) -> bytes:
    """A Parquet file of this version, in several row groups, not compressed."""
    columns: dict[str, Any] = {
        "version": pa.array(np.full(rows, version, "i8")),
        "index": pa.array(np.arange(rows, dtype="i8")),
    }
    out = io.BytesIO()
    pq.write_table(
        pa.table(columns),
        out,
        compression="none",
        use_dictionary=False,
        row_group_size=max(rows // 4, 1),
    )
    return out.getvalue()


def version_in_table(version: Any, index: Any) -> int:
    """The one version whose columns these are (NumPy arrays). Raises WrongBytes."""
    if not len(version) or not (version == version[0]).all():
        raise WrongBytes(f"a table of the versions {np.unique(version)[:8]}")
    if not (index == np.arange(len(index))).all():
        raise WrongBytes(f"rows of version {version[0]} are not where they belong")
    return int(version[0])


def version_by_arrow(path: str, tree: object) -> int:
    """What pyarrow reads."""
    table = pq.read_table(path, filesystem=tree)
    return version_in_table(table["version"].to_numpy(), table["index"].to_numpy())


def version_by_pandas(path: str, tree: object) -> int:
    """What pandas reads."""
    pd: Any = import_module("pandas")  # takes a second, and not every process needs it
    frame = pd.read_parquet(path, filesystem=tree)
    return version_in_table(frame["version"].to_numpy(), frame["index"].to_numpy())
