"""Folders that must not be mounted, because headrace itself lies in them, or they in headrace.

To read the cache through the cache would never end: each page read would make another.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

#: What this process has mounted: one line each, explained in proc(5).
MOUNTINFO = Path("/proc/self/mountinfo")

_OCTAL = re.compile(rb"\\([0-7]{3})")


def local_folder(url: str, base_folder: str) -> str | None:
    """The folder (or file) of this machine that a mount's url names; None for any other store."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return os.path.join(base_folder, url)
    return rest if scheme == "file" and rest.startswith("/") else None


def loop(folder: str, own_folders: Sequence[str], mountinfo: Path = MOUNTINFO) -> str | None:
    """What is wrong with mounting `folder`, as a sentence; None where nothing is.

    `own_folders` are those in which headrace keeps what it holds.
    """
    real = os.path.realpath(folder)
    for own in own_folders:
        if _within(os.path.realpath(own), real):
            return f"headrace keeps its own files in {own}, which lies in {folder}"
        if _within(real, os.path.realpath(own)):
            return f"{folder} lies in {own}, where headrace keeps its own files"
    for point in _own_mount_points(mountinfo):
        if _within(real, point):
            return f"{folder} lies in {point}, where the tree itself is mounted"
    return None


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _own_mount_points(mountinfo: Path) -> list[str]:
    """Where file systems of headrace's own are mounted; none where the kernel does not say."""
    try:
        raw = mountinfo.read_bytes()
    except OSError:
        return []
    points: list[str] = []
    for line in raw.split(b"\n"):
        before, _, after = line.partition(b" - ")
        fields = before.split(b" ")
        if len(fields) > 4 and b"headrace" in after.split(b" ", 1)[0]:
            point = _OCTAL.sub(lambda found: bytes([int(found[1], 8) & 0xFF]), fields[4])
            points.append(os.fsdecode(point))
    return points
