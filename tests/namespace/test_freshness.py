"""The freshness contract as users write it."""

from __future__ import annotations

import math

import pytest

from headrace_namespace.freshness import CHECK, PINNED, Freshness


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("check", 0),
        ("pinned", math.inf),
        ("30s", 30),
        ("10m", 600),
        ("0", 0),
        (0, 0),
        (2.5, 2.5),
        (60, 60),
        (math.inf, math.inf),
    ],
)
def test_what_can_be_written(value: str | float, seconds: float) -> None:
    assert Freshness.parse(value).max_age_seconds == seconds


@pytest.mark.parametrize(
    "value",
    ["", "Check", "never", "-1s", "5 parsecs", -1, -0.5, math.nan, True, False, 10**400, "9" * 400],
)
def test_what_cannot(value: str | float) -> None:
    with pytest.raises(ValueError, match=r"freshness is|an age cannot be"):
        Freshness.parse(value)


@pytest.mark.parametrize(
    ("freshness", "text"),
    [(CHECK, "check"), (PINNED, "pinned"), (Freshness(30), "30s"), (Freshness(0.25), "0.25s")],
)
def test_its_text_means_itself(freshness: Freshness, text: str) -> None:
    assert str(freshness) == text
    assert Freshness.parse(text) == freshness
