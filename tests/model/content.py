"""The bytes of every version: no two have a slice in common, so that a mixed read is known."""

from __future__ import annotations

import random

#: Stands in every version, every 256 bytes: it must be in no file that headrace writes.
CANARY = b"plaintext canary"
#: Stands in every object's name, as the second.
NAME_CANARY = "canary-name"
_EVERY = 256


def content(number: int, size: int) -> bytes:
    """`size` bytes that no other number gives."""
    data = bytearray(random.Random(number).randbytes(size))
    for start in range(64, size - len(CANARY), _EVERY):
        data[start : start + len(CANARY)] = CANARY
    return bytes(data)
