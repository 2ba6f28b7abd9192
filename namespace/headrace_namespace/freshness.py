"""How old may what headrace knows of an object be when it is opened: the freshness contract.

`check` asks the store at every open, an age trusts an answer for that long, `pinned` trusts it for
ever. The version that an open then pins never changes under it, whatever the contract.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from headrace_namespace.units import parse_seconds


@dataclass(frozen=True, slots=True)
class Freshness:
    """An answer of the store may be at most `max_age_seconds` old: 0 is `check`, inf `pinned`."""

    max_age_seconds: float

    @classmethod
    def parse(cls, value: str | int | float) -> Freshness:
        """`check`, `pinned`, an age such as `30s` or `10m`, or a number of seconds.

        Raises ValueError for anything else.
        """
        if value == "check":
            return CHECK
        if value == "pinned":
            return PINNED
        if isinstance(value, bool):
            raise ValueError("freshness is check, pinned or an age, not true or false")
        try:
            seconds = float(value) if isinstance(value, int | float) else parse_seconds(value)
        except (ValueError, OverflowError):
            raise ValueError(
                f"freshness is check, pinned or an age such as 30s or 10m, not {value!r}"
            ) from None
        if math.isnan(seconds) or seconds < 0:
            raise ValueError(f"an age cannot be {value!r}")
        return cls(seconds)

    def __str__(self) -> str:
        if self.max_age_seconds == 0:
            return "check"
        if math.isinf(self.max_age_seconds):
            return "pinned"
        return f"{self.max_age_seconds:g}s"


CHECK = Freshness(0.0)
PINNED = Freshness(math.inf)
