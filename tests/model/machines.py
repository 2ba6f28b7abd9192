"""The two machines: over a tier in a dict, and over the sealed SSD tier on a disk that fails."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import rule

from headrace_cache.tiers.protocol import PageTier
from headrace_cache.tiers.ssd.opening import open_ssd_tier
from headrace_cache.tiers.write_behind import WriteBehindTier
from headrace_namespace.metadata.ledger import Ledger, open_ledger
from tests.model import faulty_disk, scale
from tests.model.content import CANARY, NAME_CANARY
from tests.model.faulty_disk import CALLS, ERRNOS, FaultyDisk
from tests.model.forgetful_tier import ForgetfulTier
from tests.model.stalls import Stalls
from tests.model.upkeep import Upkeep
from tests.model.writing import WritingRules

#: Bytes of pages that may wait to be sealed.
BACKLOG_BYTES = 8 * scale.PAGE


class DictMachine(Stalls, WritingRules, Upkeep):
    """Over a tier that forgets when it likes, and leaves what it did not fill in any state."""

    most_ssd_bytes = scale.DICT_TIER_BYTES
    least_ssd_bytes = scale.DICT_TIER_BYTES // 4

    def open_tier(self) -> PageTier:
        fresh = ForgetfulTier(self.ssd_bytes, self.clock)
        old = getattr(self, "tier", None)
        if isinstance(old, ForgetfulTier) and self.ssd_bytes == old.usage().limit:
            old.losing = False
            return old
        return fresh

    @rule(losing=st.booleans())
    def lose(self, losing: bool) -> None:
        """The tier loses what it is asked for, or keeps it again."""
        assert isinstance(self.tier, ForgetfulTier)
        self.tier.losing = losing


class SsdMachine(Stalls, WritingRules, Upkeep):
    """Over the real tier, in a folder on a disk that fails."""

    most_ssd_bytes = scale.SSD_BYTES
    least_ssd_bytes = scale.LOW_SSD_BYTES

    def __init__(self) -> None:
        self.disk = FaultyDisk()
        self._patches = ExitStack()
        self._patches.enter_context(faulty_disk.faulty(self.disk))
        super().__init__()

    @property
    def cache_folder(self) -> Path:
        return self.root / "cache"

    def open_tier(self) -> PageTier:
        self.heal()
        tier = open_ssd_tier(
            folder=self.cache_folder,
            limit_bytes=self.ssd_bytes,
            key_file=self.root / "keys" / "ssd.key",
            page_bytes=scale.PAGE,
            clock=self.clock,
        )
        return WriteBehindTier(tier, BACKLOG_BYTES)

    def open_ledger(self) -> Ledger:
        return open_ledger(self.root / "state")

    def company_file(self) -> Path:
        return self.root / "state" / "in-use.lock"

    def disk_failed(self) -> bool:
        return self.disk.fired > 0

    @rule(call=st.sampled_from(CALLS), errno=st.sampled_from(ERRNOS), short=st.booleans())
    def fail_disk(self, call: str, errno: int, short: bool) -> None:
        """From now on this call fails, and transfers are short where they can be."""
        self.disk.failing[call] = errno
        self.disk.short = short

    @rule()
    def heal_disk(self) -> None:
        self.heal()
        self.clock.sleep(31.0)  # it keeps quiet for a while after a failure
        self.look()

    def heal(self) -> None:
        """The disk is whole again."""
        self.disk.failing.clear()
        self.disk.short = False

    def damage(self, place: int) -> None:
        files = sorted((self.cache_folder / "pages").glob("*"))
        if files:
            faulty_disk.damage(files[place % len(files)], place)

    def end(self) -> None:
        super().end()
        self.check_disk()

    def check_disk(self) -> None:
        """Nothing in plain text, and no more than may be."""
        files = [file for file in self.cache_folder.rglob("*") if file.is_file()]
        for file in (*files, *(self.root / "state").rglob("*.mdb")):
            data = file.read_bytes()
            assert CANARY not in data, f"{file} holds plain text"
            assert NAME_CANARY.encode() not in data, f"{file} holds a name"
        used = sum(file.stat().st_blocks * 512 for file in files)
        assert used <= self.ssd_bytes, f"{used} bytes of {self.ssd_bytes} on the disk"

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            self._patches.close()
