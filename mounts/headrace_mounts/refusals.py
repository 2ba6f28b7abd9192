"""What is not done to whole folders, said before anything is touched."""

from __future__ import annotations

from headrace_cache.service import CacheService
from headrace_namespace.errors import InvalidPath, NotFolder, ReadOnly
from headrace_namespace.naming import at_node
from headrace_namespace.path import NamespacePath


def refuse_mounts(service: CacheService, path: NamespacePath) -> None:
    """A mount point, and a folder that leads to one, stays: said before anything in it is touched.
    Raises ReadOnly."""
    for mount in service.mounts():
        if mount.path.is_under(path):
            what = "is a mount point" if mount.path == path else f"leads to {mount.path}"
            refusal = ReadOnly(
                f"{path} {what}, and so is not removed or moved",
                path=path.text,
                hint="unmount it, or name what lies in it",
            )
            raise at_node(refusal, service.authority)


def refuse_into_itself(service: CacheService, source: NamespacePath, target: NamespacePath) -> None:
    """A folder does not go into itself, by whatever names both are given. Raises InvalidPath."""
    if service.lies_in(target, source):
        refusal = InvalidPath(
            f"the folder {source} cannot be put into itself, at {target}", path=target.text
        )
        raise at_node(refusal, service.authority)


def link_refusal(service: CacheService, path: NamespacePath) -> NotFolder:
    """Why a link to a folder is left where it is."""
    refusal = NotFolder(
        f"{path} is a symbolic link to a folder, which is not followed",
        path=path.text,
        hint="copy the folder that it leads to",
    )
    return at_node(refusal, service.authority)
