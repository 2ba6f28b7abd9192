"""What the cache is told when it is opened: where it lies, how much it may hold, which policy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """Where the cache lies and how many bytes each tier may hold; `ssd_bytes` 0 means no SSD tier.

    `folder` is absolute with its links resolved; `key_file` lies outside of it, and so does
    `state_folder`, which holds what must outlive the cache.
    """

    folder: Path
    memory_bytes: int
    ssd_bytes: int
    key_file: Path
    state_folder: Path


@dataclass(frozen=True, slots=True)
class PolicySource:
    """A policy file's text, unparsed, and its name for messages."""

    text: str
    name: str
