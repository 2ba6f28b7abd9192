"""What holds after every step, whatever happened: bounds, nothing left behind, nothing leaked."""

from __future__ import annotations

from collections.abc import Set

from hypothesis.stateful import invariant

from headrace_cache.extents.page import PageId
from headrace_cache.tiers.memory import Extent
from tests.model import scale
from tests.model.machine import TreeMachine


class Upkeep(TreeMachine):
    """Checked after every step, when nothing is under way."""

    @invariant()
    def all_is_well(self) -> None:
        TreeMachine.steps_of_all += 1
        self.rig.idle()
        self.check_objects()
        self.check_memory()
        self.check_nothing_left()
        self.check_views()
        self.check_log()
        self.check_sealed()
        for store in self.stores.values():
            store.fired.clear()
        self.contract.step_began = self.truth.changes

    def check_objects(self) -> None:
        """No store holds what nobody wrote."""
        assert not self.wrong_objects, self.wrong_objects

    def check_memory(self) -> None:
        """The memory tier is within both its bounds, and has counted right."""
        memory, usage = self.rig.memory, self.rig.memory.usage()
        extents: Set[Extent] = vars(memory)["_extents"]
        assert usage.used <= usage.limit == self.memory_bytes, usage
        assert usage.used == sum(extent.bytes_held for extent in extents)
        assert len(extents) <= scale.MOST_EXTENTS, len(extents)

    def check_nothing_left(self) -> None:
        """No flight, claim, fill, part or upload outlives what it was for."""
        flights, store = vars(self.rig.flights), vars(self.rig.store)
        assert not flights["_by_page"], flights["_by_page"]
        assert store["_fills"] == 0, store["_fills"]
        assert self.rig.writer.open_writers == len(self.writings)
        if not self.writings:
            assert self.rig.staging.staged_bytes == 0
            extents: Set[Extent] = vars(self.rig.memory)["_extents"]
            assert not any(extent.filling for extent in extents)
            for each in self.stores.values():
                each.wait_for_uploads()
                assert not each.uploads, each.uploads

    def check_log(self) -> None:
        """Nothing that went wrong was passed over, but what a store or a disk did."""
        assert not self.logged.faults, self.logged.faults[0]

    def check_views(self) -> None:
        """A view's bytes stay what they were for as long as it lives."""
        for view, expected in self.views:
            assert bytes(view) == expected

    def check_sealed(self) -> None:
        """Nothing restricted lies in the tier, and what lies there is right."""
        usage = self.tier.usage()
        assert usage.used <= max(usage.limit, 0) or usage.limit == 0, usage
        for version in self.seen:
            digest = version.digest()
            held = self.tier.inspect(digest)
            if not self.policy.good(self.names_of(version.ref)).allows_ssd:
                assert not held, f"{version.ref} is restricted, and is sealed"
                assert not self.opens(digest, 0, min(version.size, scale.PAGE)), version.ref
            for page in held:
                data = self.truth.bytes_of.get(version)
                assert data is not None, f"{version} never was, and is sealed"
                start = page.index * scale.PAGE
                assert page.bytes == len(data[start : start + scale.PAGE])

    def opens(self, digest: bytes, index: int, length: int) -> bool:
        """Whether the tier gives a page."""
        if length == 0:
            return False
        target = bytearray(length)
        with memoryview(target) as view:
            return self.tier.load([(PageId(digest, index), view)])[0]
