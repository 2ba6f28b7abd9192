"""What the tests of the SSD tier share: opening one, its files, and worker processes."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from headrace_cache.tiers.protocol import PageTier
from headrace_cache.tiers.ssd.opening import open_ssd_tier
from headrace_namespace.clock import Clock

HOUSE = Path(__file__).parents[3]
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class SsdWorld:
    """One cache folder and its key file."""

    root: Path
    limit_bytes: int = 32 * MIB
    page_bytes: int = MIB

    @property
    def folder(self) -> Path:
        return self.root / "cache"

    @property
    def key_file(self) -> Path:
        return self.root / "keys" / "ssd.key"

    def open(self, clock: Clock | None = None) -> PageTier:
        return open_ssd_tier(
            folder=self.folder,
            limit_bytes=self.limit_bytes,
            key_file=self.key_file,
            page_bytes=self.page_bytes,
            clock=clock,
        )

    def segments(self) -> list[Path]:
        return sorted((self.folder / "pages").glob("seg-*.sealed"))

    def bytes_on_disk(self) -> int:
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())

    def worker(self, *words: str) -> subprocess.Popen[str]:
        """A real process that runs `tests/cache/tiers/ssd_worker.py` on this world."""
        command = [sys.executable, "-m", "tests.cache.tiers.ssd_worker"]
        command += [str(self.root), str(self.limit_bytes), *words]
        return subprocess.Popen(
            command, cwd=HOUSE, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
        )
