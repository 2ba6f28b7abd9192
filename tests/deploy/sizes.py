"""Sizes as container engines and the kernel read them."""

from __future__ import annotations

import re

_UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
#: Of `nr_blocks`. Where a page is larger, a tmpfs so bounded is larger too.
_PAGE_BYTES = 4096


def bytes_of(text: str) -> int:
    """`512m` and the like, as container engines read it."""
    match = re.fullmatch(r"(\d+)([kmg])", text)
    assert match is not None, f"{text} is no size with a unit"
    return int(match[1]) * _UNITS[match[2]]


def bytes_of_tmpfs(options: str) -> int:
    """What a tmpfs that is mounted with these options may hold."""
    named = dict(option.split("=", 1) for option in options.split(",") if "=" in option)
    if "nr_blocks" in named:
        return int(named["nr_blocks"]) * _PAGE_BYTES
    assert "size" in named, f"a tmpfs has no size: {options}"
    return bytes_of(named["size"])
