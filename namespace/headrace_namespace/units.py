"""Sizes and ages as people write them: `2GiB`, `512MB`, `30s`, `10m`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

_BYTES = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)")


def parse_bytes(text: str) -> int:
    """The number of bytes that `text` says (`2GiB`, `1.5 MB`, `4096`). Raises ValueError."""
    value, factor = _quantity(text, _BYTES)
    return int(value * factor)


def parse_seconds(text: str) -> float:
    """The number of seconds that `text` says (`30s`, `1.5h`, `20`). Raises ValueError."""
    value, factor = _quantity(text, _SECONDS)
    return value * factor


def format_bytes(count: float) -> str:
    """A number of bytes for people, in powers of 1024: `0 B`, `1.5 MiB`."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def _quantity(text: str, factors: Mapping[str, float]) -> tuple[float, float]:
    match = _QUANTITY.fullmatch(text.strip())
    if match is None or match[2].lower() not in factors:
        units = ", ".join(unit for unit in factors if unit)
        raise ValueError(f"{text!r} is not a number with one of the units {units}")
    value, factor = float(match[1]), factors[match[2].lower()]
    if math.isinf(value * factor):
        raise ValueError("a number of that many digits is no quantity")
    return value, factor
