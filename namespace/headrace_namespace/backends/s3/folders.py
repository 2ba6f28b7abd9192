"""Empty folders of S3: a marker, an empty object of the name `key/`, as other tools make them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from headrace_namespace.backends.protocol import Folder, There
from headrace_namespace.backends.s3.conditions import conflict_of
from headrace_namespace.backends.s3.listing import ListingPage
from headrace_namespace.backends.s3.writing import S3Writer
from headrace_namespace.errors import (
    AccessRefused,
    FolderNotEmpty,
    HeadraceError,
    MountEmpty,
    NotFolder,
    NotFound,
)
from headrace_namespace.identity import ObjectRef, ObjectVersion


class S3Folders:
    """Makes and removes markers. `stat` takes the mount's keys, `pages` lists what lies below a
    full key, part by part."""

    def __init__(
        self,
        writer: S3Writer,
        stat: Callable[[str], ObjectVersion | Folder | None],
        pages: Callable[[Mapping[str, str]], ListingPage],
    ) -> None:
        self._writer = writer
        self._stat = stat
        self._pages = pages

    def make(self, key: str, ref: ObjectRef) -> None:
        """Put the marker of the folder `ref`. Raises AlreadyExists."""
        try:
            found = self._stat(key)
        except MountEmpty:
            found = None
        if found is not None:
            raise conflict_of(
                ref,
                There.NOTHING,
                found if isinstance(found, ObjectVersion) else None,
                self._writer.store,
            )
        self._writer.put(ObjectRef(ref.store, f"{ref.key}/"), b"", There.NOTHING)

    def remove(self, key: str, ref: ObjectRef) -> None:
        """Delete the marker. Raises NotFound, NotFolder, FolderNotEmpty.

        What is written below the folder between the look and the deletion keeps it there.
        """
        store = self._writer.store
        if not key:
            raise AccessRefused(
                "the mounted folder itself cannot be removed through its mount", store=store
            )
        marker = f"{ref.key}/"
        there = False
        query = {"prefix": marker, "max-keys": "2"}
        while True:
            page = self._pages(query)
            if page.prefixes or any(item.key != marker for item in page.objects):
                raise FolderNotEmpty(f"the folder {ref.key} is not empty", store=store)
            there = there or bool(page.objects)
            if page.next_token is None:
                break
            query["continuation-token"] = page.next_token
        if not there:
            raise self._no_folder(key, ref)
        self._writer.delete_one(marker)

    def _no_folder(self, key: str, ref: ObjectRef) -> HeadraceError:
        if isinstance(self._stat(key), ObjectVersion):
            return NotFolder(f"{ref.key} is an object", store=self._writer.store)
        return NotFound(f"{ref.key} does not exist", store=self._writer.store)
