"""What each placement allows; that joins are a lattice is told in test_policy.py."""

from __future__ import annotations

import itertools

import pytest

from headrace_cache.policy.placement import Guarantee, MetadataKeeping, Persistence, Placement

ALL = [Placement(*values) for values in itertools.product(Persistence, MetadataKeeping, Guarantee)]
P, M = Persistence, MetadataKeeping


def test_the_words_of_policy_files_from_loose_to_strict() -> None:
    assert [value.word for value in sorted(Persistence)] == [
        "any",
        "sealed-ssd",
        "memory-only",
        "no-cache",
        "deny",
    ]
    assert [value.word for value in sorted(MetadataKeeping)] == ["persist", "memory-only"]
    assert [value.word for value in sorted(Guarantee)] == ["unattested", "G1", "G2"]


@pytest.mark.parametrize(
    ("persistence", "metadata", "memory", "ssd", "denies"),
    [
        (P.ANY, M.PERSIST, True, True, False),
        (P.SEALED_SSD, M.PERSIST, True, True, False),
        (P.MEMORY_ONLY, M.PERSIST, True, False, False),
        (P.NO_CACHE, M.PERSIST, False, False, False),
        (P.DENY, M.PERSIST, False, False, True),
        (P.ANY, M.MEMORY_ONLY, True, False, False),
        (P.SEALED_SSD, M.MEMORY_ONLY, True, False, False),
        (P.MEMORY_ONLY, M.MEMORY_ONLY, True, False, False),
        (P.NO_CACHE, M.MEMORY_ONLY, False, False, False),
        (P.DENY, M.MEMORY_ONLY, False, False, True),
    ],
)
@pytest.mark.parametrize("guarantee", Guarantee)
def test_what_a_placement_allows(
    persistence: Persistence,
    metadata: MetadataKeeping,
    guarantee: Guarantee,
    memory: bool,
    ssd: bool,
    denies: bool,
) -> None:
    placement = Placement(persistence, metadata, guarantee)
    assert (placement.allows_memory, placement.allows_ssd, placement.denies) == (
        memory,
        ssd,
        denies,
    )


def test_a_join_allows_nothing_that_one_of_both_forbids() -> None:
    for one, other in itertools.product(ALL, ALL):
        joined = one.join(other)
        assert joined.allows_memory <= (one.allows_memory and other.allows_memory)
        assert joined.allows_ssd <= (one.allows_ssd and other.allows_ssd)
        assert joined.denies is (one.denies or other.denies)
        assert joined in ALL
