"""A whole service over folders of this machine, its clock moved by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from headrace_namespace.backends.local import LocalBackend
from headrace_namespace.backends.observe import ObservedBackend
from headrace_namespace.mount_table import Mount
from headrace_namespace.offload import Offload
from headrace_namespace.path import NamespacePath
from headrace_namespace.tree import FixedTree, MountedStore, Trees
from tests.fakes.local_cache import Rig


@dataclass
class FolderRig(Rig):
    """A service whose mounts are folders, by their paths of the tree."""

    folders: Mapping[str, Path] = field(default_factory=dict[str, Path])

    def trees(self) -> Trees:
        stores: list[MountedStore] = []
        for path, folder in self.folders.items():
            store = ObservedBackend(LocalBackend(str(folder), self.clock))
            mount = Mount(NamespacePath.parse(path), f"file://{folder}", self.freshness)
            stores.append(MountedStore(mount, store, store, Offload(1), Offload(1)))
        return FixedTree(stores, self.clock)
