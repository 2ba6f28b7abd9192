"""What an open settled, as a value."""

from __future__ import annotations

from dataclasses import dataclass

from headrace_cache.policy.placement import Placement
from headrace_cache.policy.policy import Policy
from headrace_namespace.identity import ObjectVersion
from headrace_namespace.mount_table import Mount
from headrace_namespace.path import NamespacePath
from headrace_namespace.resolution import Location, Name


@dataclass(frozen=True, slots=True)
class Pinned:
    """What an open settled: path and mount, the version, where its bytes may be kept, the names by
    which the policy judged it, the locations where it lies, and that policy."""

    path: NamespacePath
    mount: Mount
    version: ObjectVersion
    placement: Placement
    names: tuple[Name, ...]
    locations: tuple[Location, ...]
    policy: Policy
