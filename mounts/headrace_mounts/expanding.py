"""Which paths a call that changes the tree means: those named, and what lies in them.

A path is literal where something has that very name, though it holds `*`, `?` or `[`. A symbolic
link to a folder is named, and never walked through.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from headrace_cache.service import CacheService
from headrace_mounts.refusals import refuse_into_itself, refuse_mounts
from headrace_mounts.tree_work import move_tree
from headrace_namespace.entry import Entry
from headrace_namespace.errors import FolderNotEmpty, NotFolder, NotFound
from headrace_namespace.path import NamespacePath

#: What fsspec's walk yields: a folder, the folders in it and the other things, by name.
Level = tuple[str, dict[str, Any], dict[str, Any]]


def walk_without_links(
    service: CacheService, top: NamespacePath, maxdepth: int | None
) -> Iterator[Level]:
    """As fsspec's walk with detail, entering no link to a folder but `top`. What cannot be listed
    raises; what vanished meanwhile is left out."""
    waiting = [(top, 1)]
    while waiting:
        folder, depth = waiting.pop()
        dirs: dict[str, Any] = {}
        files: dict[str, Any] = {}
        try:
            entries = sorted(service.list(folder), key=lambda entry: entry.path.text)
        except (NotFound, NotFolder):
            continue
        for entry in entries:
            facts = entry.facts()
            info = {"name": facts.pop("path"), **facts}
            if entry.path == folder:
                files[""] = info
            elif not entry.is_folder:
                files[entry.path.name] = info
            else:
                dirs[entry.path.name] = info
                if not entry.link and (maxdepth is None or depth < maxdepth):
                    waiting.append((entry.path, depth + 1))
        yield folder.text, dirs, files


def remove_to_depth(service: CacheService, path: NamespacePath, maxdepth: int) -> None:
    """Remove what lies within a depth, links as such: the files, then the folders that are empty by
    then. Raises the first error; FolderNotEmpty where something deeper keeps a folder."""
    entry = service.stat(path)
    doomed: list[Entry] = []
    folders: list[NamespacePath] = []
    waiting = [(entry, 0)]
    while waiting:
        one, depth = waiting.pop()
        if not one.is_folder or one.link:
            doomed.append(one)
            continue
        folders.append(one.path)
        if depth < maxdepth:
            waiting += [(child, depth + 1) for child in service.list(one.path)]
    for error in service.delete([one.path for one in doomed]).values():
        raise error
    for folder in reversed(folders):
        try:
            service.remove_folder(folder)
        except (NotFound, NotFolder):
            continue  # of some stores a folder is gone with the last object in it


def move_each(service: CacheService, pairs: Sequence[tuple[str, str]]) -> None:
    """Move files one by one, each to its own new path; then the folders among them go that nothing
    is left in. Raises the first error; what was not moved by then stays."""
    places = [(NamespacePath.parse(one), NamespacePath.parse(two)) for one, two in pairs]
    stats = {source: service.stat(source) for source, _ in places}
    for source, target in places:
        if stats[source].is_folder:
            refuse_mounts(service, source)
            refuse_into_itself(service, source, target)
    folders: list[NamespacePath] = []
    for source, target in places:
        if not stats[source].is_folder:
            move_tree(service, source, target).raise_first()
        elif not stats[source].link:
            folders.append(source)
            service.make_folder(target, exist_ok=True, like=source)
    for folder in reversed(folders):
        with suppress(NotFound, NotFolder, FolderNotEmpty):
            service.remove_folder(folder)
