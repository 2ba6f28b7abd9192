"""What is held of one version under one placement; only `extent_store` makes and changes it."""

from __future__ import annotations

from headrace_cache.extents.admission import Admission
from headrace_cache.policy.placement import Placement
from headrace_cache.policy.scope import Scope
from headrace_cache.tiers.memory import Span
from headrace_namespace.identity import ObjectVersion


class CachedObject:
    """What the store holds of one version under one placement."""

    __slots__ = (
        "__weakref__",
        "digest",
        "memory",
        "placement",
        "scope",
        "sealed_since",
        "size",
        "spans",
        "ssd",
        "version",
        "withdrawn",
    )

    def __init__(
        self,
        version: ObjectVersion,
        placement: Placement,
        scope: Scope,
        digest: bytes,
        admission: Admission,
    ) -> None:
        self.version = version
        #: The folders of all names by which it was reached here; it only grows.
        self.scope = scope
        self.digest = digest
        self.size = version.size
        self.placement = placement
        self.memory = admission.memory
        self.ssd = admission.ssd
        #: Nothing more may be kept under its placement: the policy changed. Attach anew.
        self.withdrawn = False
        #: When the oldest page that the SSD had at attach was fetched; known where its age matters.
        self.sealed_since: float | None = None
        #: Extent index -> the object's part of that extent, where memory holds one.
        self.spans: dict[int, Span] = {}
