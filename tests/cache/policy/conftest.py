"""Processes that share one policy file, one ledger and one SSD."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from headrace_cache.limits import PolicySource
from headrace_namespace.metadata.ledger import Ledger, MemoryLedger
from tests.fakes.local_cache import PAGE
from tests.fakes.memory_backend import MemoryBackend
from tests.fakes.page_tier import DictTier
from tests.fakes.watched_cache import OPEN, Start, Watched


@pytest.fixture
def start(tmp_path: Path, lake: MemoryBackend) -> Iterator[Start]:
    """Processes of one host, one after the other or beside each other."""
    for folder in ("hr", "pay", "open"):
        for name in ("a", "b"):
            lake.set(f"{folder}/{name}", folder.encode() * PAGE)
    file, ledger, tier = tmp_path / "policy.toml", MemoryLedger(), DictTier()
    file.write_text(OPEN)
    started: list[Watched] = []

    def begin(
        *,
        mounts: Sequence[str] = ("/lake",),
        ssd: DictTier = tier,
        ledger: Ledger = ledger,
        tags_of: dict[str, tuple[str, ...]] | None = None,
        company_file: Path = Path("/nowhere/in-use.lock"),
    ) -> Watched:
        backends = {mount: lake for mount in mounts}
        source = PolicySource(file.read_text(), str(file))
        rig = Watched(
            backends,
            policy=source,
            ssd=ssd,
            ledger=ledger,
            tags_of=tags_of or {},
            company_file=company_file,
        )
        rig.file = file
        started.append(rig)
        return rig

    yield begin
    for rig in started:
        rig.service.close()
