"""What opens have settled: where a path leads, under which placement, to which version.

A job opens the same files again and again. Each open asks for the mounts, the policy, the folder
and the version of now; where all of them are those of the last open of the path, so is all that
follows from them, and no lock is taken to work it out anew.
"""

from __future__ import annotations

from headrace_cache.extents.cached_object import CachedObject
from headrace_cache.reading.pinned import Pinned
from headrace_namespace.freshness import Freshness
from headrace_namespace.namespace import Namespace
from headrace_namespace.path import NamespacePath
from headrace_namespace.resolution import Resolved
from headrace_namespace.standing import Standing

#: About 2 KB each. When so many are known all are forgotten: to settle one anew takes some 50
#: microseconds.
MOST_SETTLED = 10_000


class SettledOpens:
    """What is settled under the mounts and the policy of now, for all who read."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._now = Settled(namespace, None, None)

    def now(self, mounts: object, policy: object) -> Settled:
        """What is settled under these; nothing, where they have just changed."""
        now = self._now
        if now.mounts is not mounts or now.policy is not policy:
            now = self._now = Settled(self._namespace, mounts, policy)
        return now


class Settled:
    """Opens under one table of mounts and one policy; where either changes, all is settled anew.

    Safe to use from many threads.
    """

    __slots__ = ("_files", "_folders", "_namespace", "mounts", "policy")

    def __init__(self, namespace: Namespace, mounts: object, policy: object) -> None:
        self._namespace = namespace
        self.mounts = mounts
        self.policy = policy
        self._folders: dict[str, _Folder] = {}
        self._files: dict[str, _File] = {}

    def again(
        self, path: NamespacePath, freshness: Freshness | None
    ) -> tuple[Pinned, CachedObject] | None:
        """What the last open of `path` settled, where its folder still leads where it led and its
        version is fresh enough; else None."""
        file = self._files.get(path.text)
        if file is None:
            return None
        held = file.held
        if held.withdrawn or not self._stands(file.folder):
            return None
        if not self._namespace.observing.is_fresh(file.resolved, file.pinned.version, freshness):
            return None
        return file.pinned, held

    def standing(self, pinned: Pinned) -> Standing | None:
        """For how long the next open of the path may settle the same without asking here."""
        file = self._files.get(pinned.path.text)
        if file is None or file.pinned is not pinned or not self._stands(file.folder):
            return None
        looked_at = file.folder.resolved.looked_at
        return self._namespace.observing.standing(file.resolved, pinned.version, looked_at)

    def settle(self, resolved: Resolved, pinned: Pinned, held: CachedObject) -> None:
        """An open came to this; it is remembered where the next one may rely on it."""
        path = pinned.path
        if (
            pinned.policy is not self.policy  # it changed meanwhile
            or pinned.mount.ttl_seconds is not None  # each open looks at the age of what is held
            or resolved.path != path  # it has another Unicode spelling: the asked one may come
        ):
            return
        folder = self._folders.get(path.parent.text)
        if folder is None or not self._stands(folder):
            folder = _Folder(self._namespace.resolve(path.parent))
        if not _lies_plainly(resolved, folder.resolved):
            return
        if len(self._files) >= MOST_SETTLED:
            self._files.clear()
            self._folders.clear()
        self._folders[path.parent.text] = folder
        self._files[path.text] = _File(folder, resolved, pinned, held)

    def _stands(self, folder: _Folder) -> bool:
        """Whether the folder leads where it led, by the same names."""
        resolved = self._namespace.still(folder.resolved)
        if resolved is not folder.resolved:
            if resolved != folder.resolved:
                return False
            folder.resolved = resolved
        return True


class _Folder:
    """Where a folder leads, for all that was opened in it: links are looked for on the way to a
    folder, not to each of its files."""

    __slots__ = ("resolved",)

    def __init__(self, resolved: Resolved) -> None:
        self.resolved = resolved


class _File:
    """What the last open of a file came to."""

    __slots__ = ("folder", "held", "pinned", "resolved")

    def __init__(
        self, folder: _Folder, resolved: Resolved, pinned: Pinned, held: CachedObject
    ) -> None:
        self.folder = folder
        self.resolved = resolved
        self.pinned = pinned
        #: Extents are not held by it: they leave it when their turn comes.
        self.held = held


def _lies_plainly(resolved: Resolved, folder: Resolved) -> bool:
    """Whether a file has its own name in the folder, and no names but those that the folder gives
    it: so it is no link, and no mount of its own."""
    if resolved.ref is None or folder.ref is None or resolved.mount is not folder.mount:
        return False
    above, _, name = resolved.ref.key.rpartition("/")
    if name != resolved.path.name or above != folder.ref.key.rstrip("/"):
        return False
    return [(each.path.parent, each.mount) for each in resolved.names] == [
        (each.path, each.mount) for each in folder.names
    ]
