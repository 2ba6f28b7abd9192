"""Sizes and ages as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_namespace.units import format_bytes, parse_bytes, parse_seconds


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        ("4096", 4096),
        ("1B", 1),
        ("1KiB", 1024),
        ("1kib", 1024),
        ("1KB", 1000),
        ("1 MB", 10**6),
        ("1.5 MB", 1_500_000),
        ("0.5GiB", 2**29),
        ("2GiB", 2**31),
        ("1TB", 10**12),
        ("3TiB", 3 * 2**40),
        ("  7 MiB ", 7 * 2**20),
    ],
)
def test_bytes(text: str, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("20", 20), ("30s", 30), ("250ms", 0.25), ("10m", 600), ("1.5h", 5400), ("2 d", 172_800)],
)
def test_seconds(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "MiB",
        "-1",
        "+1",
        "1e3",
        "1,5MB",
        "1.",
        ".5",
        "0x10",
        "1 Mi B",
        "5 parsecs",
        "nan",
        "inf",
    ]
    + ["٣", "1_000", "9" * 400],
)
def test_what_is_no_quantity(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_bytes(text)
    with pytest.raises(ValueError, match=r"."):
        parse_seconds(text)


def test_the_units_that_are_known_are_named() -> None:
    with pytest.raises(ValueError, match=r"'5 s'.*KiB|'5 s'.*kib"):
        parse_bytes("5 s")
    with pytest.raises(ValueError, match="'5 kib'.*ms"):
        parse_seconds("5 kib")


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536 * 1024, "1.5 MiB"),
        (2**31, "2.0 GiB"),
        (5 * 2**40, "5.0 TiB"),
        (5 * 2**50, "5120.0 TiB"),
    ],
)
def test_bytes_for_people(count: int, text: str) -> None:
    assert format_bytes(count) == text


@given(st.integers(0, 2**52))
def test_a_whole_number_is_itself(count: int) -> None:
    assert parse_bytes(str(count)) == count


@given(st.integers(0, 2**50))
def test_what_is_shown_can_be_read_back_roughly(count: int) -> None:
    assert abs(parse_bytes(format_bytes(count)) - count) <= max(count * 0.06, 1)
