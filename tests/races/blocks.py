"""Objects that tell of themselves: every 16 bytes of every 512-byte block carry the version's
number and the block's index, so that bytes of two versions, or of the wrong place, show anywhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np

BLOCK_BYTES = 512
PAIR_BYTES = 16


class WrongBytes(AssertionError):
    """Bytes that are not of exactly one version, from exactly the place that was read."""


def body(version: int, blocks: int) -> bytes:
    """The object of this version."""
    pairs: Any = np.empty((blocks, BLOCK_BYTES // PAIR_BYTES, 2), "<u8")
    pairs[:, :, 0] = version
    pairs[:, :, 1] = np.arange(blocks, dtype="<u8")[:, None]
    return bytes(pairs.tobytes())


def version_in(data: bytes | bytearray | memoryview, start: int = 0) -> int:
    """The one version whose bytes from `start` on these are. Raises WrongBytes.

    At least 16 whole bytes from a multiple of 16 on must be among them.
    """
    skip = -start % PAIR_BYTES
    whole = (len(data) - skip) // PAIR_BYTES * PAIR_BYTES
    pairs: Any = np.frombuffer(data, "<u8", whole // 8, skip).reshape(-1, 2)
    if not len(pairs):
        raise WrongBytes(f"{len(data)} bytes from {start} tell nothing")
    version = int(pairs[0, 0])
    first = (start + skip) // PAIR_BYTES
    places = np.arange(first, first + len(pairs), dtype="<u8") // (BLOCK_BYTES // PAIR_BYTES)
    if not (pairs[:, 0] == version).all():
        versions = sorted({int(one) for one in np.unique(pairs[:, 0])[:8]})
        raise WrongBytes(f"{len(data)} bytes from {start} are of the versions {versions}")
    if not (pairs[:, 1] == places).all():
        raise WrongBytes(f"{len(data)} bytes from {start} of version {version} are from elsewhere")
    # What sticks out at both ends is compared with what must stand there.
    if skip or whole + skip < len(data):
        blocks = (start + len(data)) // BLOCK_BYTES + 1
        expected = body(version, blocks)[start : start + len(data)]
        if expected != data:
            raise WrongBytes(f"the ends of {len(data)} bytes from {start} are wrong")
    return version
