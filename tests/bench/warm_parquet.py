"""Warm reads through the URL beside the same file on a local page-cached path.

`python -m tests.bench.warm_parquet [MB]`. The source is a local folder: warm reads do not reach it.
By a cache of this process's own, and through a node.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from headrace_mounts.connect import disconnect_all
from tests.bench.fair import race, show
from tests.untyped import fsspec, np, pa, pd, pq

SMALL_FILES = 200


def make_silo(folder: Path, megabytes: int) -> None:
    """One Parquet file of about this size, and 200 of some 16 KB."""
    rows = megabytes * 22_000
    rng = np.random.default_rng(1)
    columns: dict[str, Any] = {name: rng.random(rows) for name in "abcde"}
    columns["n"] = rng.integers(0, 1000, rows)
    pq.write_table(pa.table(columns), folder / "large.parquet", compression="zstd")
    (folder / "small").mkdir()
    for number in range(SMALL_FILES):
        part = pa.table({name: rng.random(600) for name in "abc"})
        pq.write_table(part, folder / "small" / f"{number:03}.parquet")


@contextmanager
def running_node(root: Path, silo: Path) -> Generator[str]:
    """The configuration of a node over the same folder, while it runs."""
    file = root / "node.toml"
    file.write_text(
        f'[[mount]]\npath = "/lake"\nurl = "{silo}"\n[cache]\nfolder = "node/cache"\n'
        'key_file = "node/key"\nstate_folder = "node/state"\nmemory = "2GiB"\nssd = "4GiB"\n'
    )
    command = [sys.executable, "-m", "headrace", "--config", str(file), "node"]
    node = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert node.stderr is not None
    try:
        assert "serving" in node.stderr.readline()
        yield str(file)
    finally:
        disconnect_all()
        node.terminate()
        node.wait(60)
        node.stderr.close()


def main(megabytes: int = 500) -> None:
    """Print the tables."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        silo = root / "silo"
        silo.mkdir()
        make_silo(silo, megabytes)
        config: dict[str, object] = {
            "mount": [{"path": "/lake", "url": str(silo), "freshness": "check"}],
            "cache": {
                "folder": str(root / "cache"),
                "memory": "2GiB",
                "ssd": "4GiB",
                "key_file": str(root / "keys" / "key"),
            },
        }
        options = {"config": config}
        with running_node(root, silo) as file:
            _compare(root, silo, options, {"config": file})


def _compare(root: Path, silo: Path, options: dict[str, Any], by_node: dict[str, Any]) -> None:
    config = options["config"]
    local, url = str(silo / "large.parquet"), "headrace:///lake/large.parquet"
    size = (silo / "large.parquet").stat().st_size
    fs: Any = fsspec.filesystem("headrace", config=config)
    node: Any = fsspec.filesystem("headrace", **by_node)
    for each in (fs, node):
        with each.open(url) as file:
            file.read()  # warm
        each.service.flush()
    show(
        f"pandas.read_parquet, {size / 1e6:.0f} MB, all columns, warm",
        race(
            {
                "local path": lambda: pd.read_parquet(local),
                "headrace URL": lambda: pd.read_parquet(url, storage_options=options),
                "by a node": lambda: pd.read_parquet(url, storage_options=by_node),
            }
        ),
    )
    two = ["a", "n"]
    show(
        "the same, 2 of 6 columns",
        race(
            {
                "local path": lambda: pd.read_parquet(local, columns=two),
                "headrace URL": lambda: pd.read_parquet(url, columns=two, storage_options=options),
                "by a node": lambda: pd.read_parquet(url, columns=two, storage_options=by_node),
            }
        ),
    )
    names = [f"{number:03}.parquet" for number in range(SMALL_FILES)]
    small = str(silo / "small")

    def read_local() -> None:
        for part in names:
            with open(f"{small}/{part}", "rb") as file:
                pq.read_table(file)

    def read_fs(other: Any, base: str) -> None:
        for part in names:
            with other.open(f"{base}/{part}") as file:
                pq.read_table(file)

    filecache: Any = fsspec.filesystem(
        "filecache", target_protocol="file", cache_storage=str(root / "filecache")
    )
    show(
        f"{SMALL_FILES} small Parquet files one by one, warm",
        race(
            {
                "local path": read_local,
                "headrace": lambda: read_fs(fs, "/lake/small"),
                "by a node": lambda: read_fs(node, "/lake/small"),
                "fsspec filecache": lambda: read_fs(filecache, small),
            }
        ),
    )
    offsets = [random.randrange(size - 4096) for _ in range(50_000)]
    plain = open(local, "rb", buffering=0)  # noqa: SIM115 - closed below
    cached, through = fs.open(url), node.open(url)

    def read_random(file: Any) -> None:
        for offset in offsets:
            file.seek(offset)
            file.read(4096)

    show(
        "50,000 random reads of 4 KiB on an open file",
        race(
            {
                "local file": lambda: read_random(plain),
                "headrace": lambda: read_random(cached),
                "by a node": lambda: read_random(through),
            }
        ),
    )
    plain.close()
    cached.close()
    through.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 500)
