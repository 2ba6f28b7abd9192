"""Pages in a folder that a rule will cover and in one that it will not, to test purging with."""

from __future__ import annotations

from headrace_cache.extents.page import PageId
from headrace_cache.policy.scope import Scope
from headrace_cache.tiers.protocol import PageTier
from tests.conformance.page_tier_suite import (
    loaded,
    random_page,
    scope_of,
    stored,
    text_page,
    version,
)

SECRET, OPEN, BOTH = scope_of("/lake/hr"), scope_of("/lake/open"), scope_of("/lake/hr", "/x/hr")
COVERED = [PageId(version(number), index) for number in range(3) for index in range(2)]
STAYING = [PageId(version(number), index) for number in range(10, 13) for index in range(2)]
LENGTH = 5000


def covers_hr(scope: Scope) -> bool:
    return any(name.path.text == "/lake/hr" for name in scope.folders)


def fill(tier: PageTier) -> None:
    for page in COVERED:
        stored(tier, page, random_page(page, LENGTH), SECRET)
    for page in STAYING:
        stored(tier, page, text_page(page, LENGTH), OPEN)
    tier.flush()


def right(tier: PageTier, page: PageId) -> bool:
    """Whether the page is served; raises where it is wrong."""
    data = loaded(tier, page, LENGTH)
    if data not in (None, random_page(page, LENGTH), text_page(page, LENGTH)):
        raise AssertionError(f"{page} is wrong")
    return data is not None


def served(tier: PageTier, pages: list[PageId]) -> int:
    """How many are served; each of them right."""
    return sum(right(tier, page) for page in pages)
