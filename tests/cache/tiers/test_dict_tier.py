"""The fake that other tests use keeps the promises of a page tier too."""

from __future__ import annotations

from headrace_cache.tiers.protocol import PageTier
from tests.conformance.page_tier_suite import PageTierSuite
from tests.fakes.page_tier import DictTier


class TestDictTier(PageTierSuite):
    def make_tier(self) -> PageTier:
        return DictTier(limit=64 << 20)

    def test_a_closed_tier_holds_nothing_and_does_not_fail(self, tier: PageTier) -> None:
        """It outlives its closing, on purpose."""
