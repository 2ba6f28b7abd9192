"""The machine finds what it is for: each of these breaks the cache in one way, and is found."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import pytest

from headrace_cache.extents.cached_object import CachedObject
from headrace_cache.extents.extent_store import ExtentStore
from headrace_cache.extents.fill import Fill
from headrace_cache.policy.purging import Purging
from headrace_cache.reading.gate import PolicyGate
from headrace_cache.reading.single_flight import Flights
from headrace_cache.tiers.memory import MemoryTier
from headrace_namespace.identity import ObjectVersion
from headrace_namespace.namespace import Namespace
from tests.fakes.memory_backend import MemoryBackend
from tests.model.machines import DictMachine
from tests.model.running import run

#: Far more than any of them should need.
MOST_EXAMPLES = 400
Patch = pytest.MonkeyPatch


def do_nothing(*_: object, **__: object) -> None:
    """In place of what should be done."""


def no_version_in_ranges(patch: Patch) -> None:
    """A range is read of whatever is there now."""

    def bytes_of(self: MemoryBackend, version: ObjectVersion) -> bytes:
        data = self.data(version.ref.key) if version.ref.key in self.keys else b""
        return data.ljust(version.size, b"\0")

    patch.setattr(MemoryBackend, "_bytes_of", bytes_of)


def published_before_it_is_complete(patch: Patch) -> None:
    """Pages count as present from when they are asked for."""
    target = Fill.target

    def early(self: Fill, pages: range) -> memoryview:
        self.publish(pages, seal=False)
        return target(self, pages)

    patch.setattr(Fill, "target", early)


def policy_change_forgets_nothing(patch: Patch) -> None:
    """What was allowed when it came stays where it is."""
    patch.setattr(Purging, "enforce", do_nothing)


def sealed_whatever_the_placement(patch: Patch) -> None:
    """Everything that memory takes is sealed too."""
    init = CachedObject.__init__

    def make(self: CachedObject, *given: Any) -> None:
        init(self, *given)
        self.ssd = self.memory

    patch.setattr(CachedObject, "__init__", make)


def flights_never_land(patch: Patch) -> None:
    """A fetch that failed leaves its claim behind."""
    land = Flights.land

    def forgetful(self: Flights, flight: Any, error: BaseException | None = None) -> None:
        if error is None:
            land(self, flight, error)
        else:
            flight.land(error)

    patch.setattr(Flights, "land", forgetful)


def own_writes_are_not_noticed(patch: Patch) -> None:
    """What was known of an object stands after this process has written it."""
    patch.setattr(Namespace, "written", do_nothing)


def no_bound_of_memory(patch: Patch) -> None:
    """Nothing has to leave for what comes."""

    def charge(self: MemoryTier, extent: Any, count: int) -> bool:
        inside = vars(self)
        inside["_used"] += count
        extent.bytes_held += count
        inside["_rule"].grown(extent, count)
        return True

    patch.setattr(MemoryTier, "charge", charge)


def what_the_tier_has_not_is_served(patch: Patch) -> None:
    """What the tier has not is taken for what it gave."""
    load = ExtentStore.load_sealed

    def strict(self: ExtentStore, held: CachedObject, pages: Any) -> list[bool]:
        load(self, held, pages)
        return [held.ssd] * len(pages)

    patch.setattr(ExtentStore, "load_sealed", strict)


def denied_objects_are_opened(patch: Patch) -> None:
    """The policy is asked, and not minded."""
    patch.setattr(PolicyGate, "_refusal_of", do_nothing)


def fetched_as_far_as_it_came(patch: Patch) -> None:
    """A body that ended early, or was another's, is taken for what was asked for."""
    read_into = Namespace.read_into

    def careless(self: Namespace, *given: Any) -> None:
        with suppress(OSError):
            read_into(self, *given)

    patch.setattr(Namespace, "read_into", careless)


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (no_version_in_ranges, "first wrong at"),
        (published_before_it_is_complete, "first wrong at|never was, and is sealed"),
        (policy_change_forgets_nothing, "is restricted, and is sealed"),
        (sealed_whatever_the_placement, "is restricted, and"),
        (flights_never_land, "Flight object"),
        (own_writes_are_not_noticed, "is beyond the contract"),
        (no_bound_of_memory, "TierUsage"),
        (what_the_tier_has_not_is_served, "first wrong at"),
        (denied_objects_are_opened, "is denied, and was"),
        (fetched_as_far_as_it_came, "first wrong at"),
    ],
)
def test_a_broken_cache_is_found(
    broken: Callable[[Patch], None], told: str, monkeypatch: Patch
) -> None:
    broken(monkeypatch)
    with pytest.raises((AssertionError, ExceptionGroup)) as caught:
        run(DictMachine, MOST_EXAMPLES, shrink=False)
    found: Sequence[Exception] = getattr(caught.value, "exceptions", (caught.value,))
    assert any(re.search(told, str(error)) for error in found), found
