"""Which bytes: the object, and the exact version of it.

The version is part of every cache key, so a cached page can be old but never wrong, and nothing is
ever invalidated. A tag is *strong* where the store promises that equal tags mean equal bytes (an S3
ETag), *weak* where it is what the store shows of a change (mtime, size, inode).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b

#: 128 bits: two of 10^12 versions collide with a probability below 10^-14.
DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """One object of one store. `store` names the store (`s3://host/bucket`, `file://`), `key` the
    object in it by the store's own full name, so that two mounts of one store agree."""

    store: str
    key: str

    def __str__(self) -> str:
        return f"{self.store.rstrip('/')}/{self.key.lstrip('/')}"

    def __hash__(self) -> int:
        return hash(self.key)  # every open looks it up, and a text remembers its hash


@dataclass(frozen=True, slots=True)
class ObjectVersion:
    """Exactly which bytes of an object.

    `tag` with `size` identifies them; `mtime` (seconds since the epoch) and `version_id` (a
    versioned store's own handle, by which replaced bytes can still be had) do not take part in
    equality.
    """

    ref: ObjectRef
    tag: str
    size: int
    strong: bool
    mtime: float | None = field(default=None, compare=False)
    version_id: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError(f"an object cannot have {self.size} bytes")

    def digest(self) -> bytes:
        """16 bytes that stand for this version in cache keys, equal on every machine.

        BLAKE2b-128 over the length-prefixed store, key and tag, and the size.
        """
        hasher = blake2b(digest_size=DIGEST_BYTES)
        for part in (self.ref.store, self.ref.key, self.tag):
            raw = part.encode("utf-8", "surrogateescape")
            hasher.update(len(raw).to_bytes(4, "little"))
            hasher.update(raw)
        hasher.update(self.size.to_bytes(8, "little"))
        return hasher.digest()
