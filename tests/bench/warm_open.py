"""What it costs to open a file whose bytes are in memory, beside opening a local one.

`python -m tests.bench.warm_open`. Under `check` each open asks the source once (one `lstat`); under
`pinned` it makes no system call at all.
"""

from __future__ import annotations

import io
import os
import tempfile
from pathlib import Path
from typing import Any

from headrace_mounts.connect import disconnect_all
from tests.bench.fair import race, show
from tests.untyped import fsspec

#: Few at a time and many rounds: then the least is what it costs where nobody disturbs.
OPENS = 50
ROUNDS = 201


def main() -> None:
    """Print the tables."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        silo = root / "silo"
        silo.mkdir()
        for number in range(OPENS):
            (silo / f"{number:03}").write_bytes(os.urandom(16 << 10))
        config: dict[str, object] = {
            "mount": [{"path": "/lake", "url": str(silo)}],
            "cache": {"folder": str(root / "cache"), "memory": "256MiB", "ssd": 0},
        }
        fs: Any = fsspec.filesystem("headrace", config=config)
        local_fs: Any = fsspec.filesystem("file")
        filecache: Any = fsspec.filesystem(
            "filecache", target_protocol="file", cache_storage=str(root / "filecache")
        )
        names = [f"{number:03}" for number in range(OPENS)]
        for each in names:
            fs.cat_file(f"/lake/{each}")  # warm

        def open_pinned(path: str) -> Any:
            return fs.open(path, max_age="pinned")

        def stat(path: str) -> Any:
            os.stat(path)
            return _NOTHING

        contenders: dict[str, tuple[Any, str]] = {
            "io.FileIO": (io.FileIO, str(silo)),
            "open(), buffered": (_open_buffered, str(silo)),
            "headrace, pinned": (open_pinned, "/lake"),
            "headrace, check": (fs.open, "/lake"),
            "os.stat alone": (stat, str(silo)),
            "fsspec local": (local_fs.open, str(silo)),
            "fsspec filecache": (filecache.open, str(silo)),
        }
        for title, parts in (
            ("open and close one file again and again, warm", names[:1] * OPENS),
            (f"open and close each of {OPENS} files in turn, warm", names),
        ):
            show(
                title,
                race(
                    {
                        label: _opens(opener, [f"{base}/{part}" for part in parts])
                        for label, (opener, base) in contenders.items()
                    },
                    rounds=ROUNDS,
                ),
                operations=OPENS,
            )
        disconnect_all()


class _Nothing:
    def close(self) -> None:
        pass


_NOTHING = _Nothing()


def _open_buffered(path: str) -> Any:
    return open(path, "rb")


def _opens(opener: Any, paths: list[str]) -> Any:
    def run() -> None:
        for path in paths:
            opener(path).close()

    return run


if __name__ == "__main__":
    main()
